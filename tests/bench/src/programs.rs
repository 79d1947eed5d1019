//! Real programs that find their secret as a credential of systemd's: the column `credential` of docs/delivery-matrix.md.
//!
//! The programs are the host's, under the container's systemd: each unit changes its root to the host's files, which cannot be written there. Never
//! a cell that is not of the table, never a cell of the table that is not tried.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rempart_harness::{Postgres, free_port, repository, run};

use crate::{
    check::Report,
    node::{HOST, Node, VALUE, talk},
};

/// The secrets of the servers, beside the one of all other units.
const SERVERS: &str = "servers";
/// What the table says of a program that has exactly the value.
const WORKS: &str = "works";
/// Their certificate, inside.
const CERTIFICATE: &str = "/run/tls.pem";
/// Until a server serves.
const SERVES: Duration = Duration::from_secs(30);

/// What tests/systemd/readers/build has made, and the servers that this machine has.
pub struct Programs {
    readers: PathBuf,
    /// Names and commands, whose last argument is still missing.
    languages: Vec<(String, String)>,
    nginx: Option<PathBuf>,
    redis: Option<PathBuf>,
    postgres: Option<Installed>,
    port: u16,
}

/// PostgreSQL's programs, and the host's number for its user `postgres`, which initdb looks up.
struct Installed {
    programs: PathBuf,
    uid: String,
}

impl Programs {
    /// Looks at the machine.
    pub fn find(readers: &Path) -> Result<Self> {
        let list = fs::read_to_string(readers.join("languages")).context("the readers are not made")?;
        let language = |line: &str| {
            let mut fields = line.split('|');
            let (name, command) = (fields.next()?, fields.nth(2)?);
            Some((name.to_owned(), command.to_owned()))
        };
        let installed = |name: &str| {
            ["/usr/sbin", "/usr/bin"]
                .map(|folder| Path::new(folder).join(name))
                .into_iter()
                .find(|path| path.exists())
        };
        Ok(Self {
            readers: readers.to_owned(),
            languages: list.lines().filter_map(language).collect(),
            nginx: installed("nginx"),
            redis: installed("redis-server"),
            postgres: Installed::find(),
            port: free_port()?,
        })
    }

    /// A unit for each.
    pub fn units(&self) -> Vec<(String, String)> {
        let secret = |path: &str| format!("[X-Rempart]\nWrap=yes\nRole=bench\nSecret=K:credential=kv/{path}\n");
        let mut units: Vec<(String, String)> = self
            .languages
            .iter()
            .map(|(name, command)| {
                let text = format!(
                    "[Service]\nType=oneshot\nEnvironment=LC_ALL=C.UTF-8\nStandardOutput=file:/run/{name}.told\n\
                     ExecStart=/usr/sbin/chroot {HOST} {command} credential\n{}",
                    secret("bench#value")
                );
                (unit(name), text)
            })
            .collect();
        let server = |name: &str, command: &str| {
            format!(
                "[Service]\nType=exec\nRuntimeDirectory={name}\nExecStart=/usr/sbin/chroot {HOST} {command}\n{}",
                secret(&format!("{SERVERS}#{name}"))
            )
        };
        if let Some(nginx) = &self.nginx {
            let command = format!("{} -c /run/nginx.conf", nginx.display());
            units.push((unit("nginx"), server("nginx", &command)));
        }
        if let Some(redis) = &self.redis {
            let command = format!("{} {}", redis.display(), credential("Redis"));
            units.push((unit("Redis"), server("Redis", &command)));
        }
        if let Some(Installed { programs, .. }) = &self.postgres {
            let at = programs.display();
            let folder = "/run/PostgreSQL";
            let command = format!(
                "{at}/postgres -D {folder}/data -k {folder} -p {} -c listen_addresses=127.0.0.1 -c fsync=off -c ssl=on \
                 -c ssl_cert_file={CERTIFICATE} -c ssl_key_file={}",
                self.port,
                credential("PostgreSQL")
            );
            let more = format!(
                "User=postgres\nAmbientCapabilities=CAP_SYS_CHROOT\nTimeoutStartSec=60\n\
                 ExecStartPre=/usr/sbin/chroot {HOST} {at}/initdb -D {folder}/data -U postgres --auth=trust --no-sync -E UTF8 --locale=C.UTF-8\n\
                 ExecStart="
            );
            units.push((
                unit("PostgreSQL"),
                server("PostgreSQL", &command).replacen("ExecStart=", &more, 1),
            ));
        }
        units
    }

    /// All rows.
    pub fn rows(&self, node: &Node, report: &mut Report) -> Result<()> {
        let inside = &node.container;
        // Credentials that come to be are seen there too.
        inside.run(&["mount", "--rbind", "/run", &format!("{HOST}/run")])?;
        let mut found = BTreeMap::new();
        for (name, _) in &self.languages {
            let (started, said) = talk(inside, &["systemctl", "start", &unit(name)], "")?;
            let told = inside.output(&["cat", &format!("/run/{name}.told")])?;
            let why = || format!("{said}; «{told}»; {}", inside.journal(&unit(name)).unwrap_or_default());
            cell(report, &mut found, name, started && told == VALUE, why);
        }
        self.servers(node, report, &mut found)?;
        let text = fs::read_to_string(repository().join("docs/delivery-matrix.md"))?;
        let (said, missing) = column(&text, |name| found.contains_key(name));
        ensure!(!said.is_empty(), "docs/delivery-matrix.md has no table");
        for name in &missing {
            println!("test systemd/agent/delivery/{name} ... skipped (not installed)");
        }
        report.row("delivery/documentation-of-credentials", said == found, || {
            format!("seen {found:?}, said {said:?}")
        });
        Ok(())
    }

    fn servers(&self, node: &Node, report: &mut Report, found: &mut BTreeMap<String, String>) -> Result<()> {
        let inside = &node.container;
        let key = fs::read_to_string(self.readers.join("tls.key"))?;
        let redis = format!("port 0\nunixsocket /run/Redis/socket\nsave \"\"\nrequirepass \"{VALUE}\"\n");
        node.bao
            .put_secret(SERVERS, &[("nginx", &key), ("PostgreSQL", &key), ("Redis", &redis)])?;
        node.bao.role("bench", &["bench", SERVERS])?;
        let certificate = self.readers.join("tls.pem").display().to_string();
        // Where each of them may read it.
        let text = fs::read_to_string(&certificate)?;
        talk(inside, &["sh", "-c", &format!("cat >{CERTIFICATE}")], &text)?;
        let mut serves = |name: &str, wanted: &str, ask: &mut dyn FnMut() -> String| -> Result<()> {
            let (started, said) = talk(inside, &["systemctl", "start", &unit(name)], "")?;
            let mut told = String::new();
            let in_time = inside.wait_until(SERVES, name, || {
                told = ask();
                Ok(!started || told == wanted)
            });
            let why = || format!("{said}; «{told}»; {}", inside.journal(&unit(name)).unwrap_or_default());
            cell(report, found, name, started && in_time.is_ok(), why);
            inside.output(&["systemctl", "stop", &unit(name)])?;
            Ok(())
        };
        if self.nginx.is_some() {
            let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path /run/nginx/{kind}; "))
                .concat();
            let text = format!(
                "daemon off; pid /run/nginx/pid; error_log stderr; events {{}} http {{ access_log off; {folders}server {{ listen 127.0.0.1:{} ssl; \
                 ssl_certificate {CERTIFICATE}; ssl_certificate_key {}; return 200 served; }} }}",
                self.port,
                credential("nginx")
            );
            // Not by the host's side of the folder: /run is mounted inside.
            talk(inside, &["sh", "-c", "cat >/run/nginx.conf"], &text)?;
            let url = format!("https://localhost:{}/", self.port);
            serves("nginx", "served", &mut || {
                run(Command::new("curl").args(["-sS", "--cacert", &certificate, &url]))
                    .unwrap_or_else(|error| error.to_string())
            })?;
        }
        if self.redis.is_some() {
            // Without the password it answers nobody.
            let ask = format!(
                "redis-cli -s /run/Redis/socket ping | head -c6; echo; REDISCLI_AUTH='{VALUE}' redis-cli -s /run/Redis/socket ping"
            );
            serves("Redis", "NOAUTH\nPONG", &mut || {
                inside
                    .output(&["chroot", HOST, "sh", "-c", &ask])
                    .unwrap_or_else(|error| error.to_string())
            })?;
        }
        if let Some(Installed { programs, uid }) = &self.postgres {
            inside.run(&["useradd", "--no-create-home", "--uid", uid, "postgres"])?;
            let to = format!(
                "host=localhost port={} user=postgres sslmode=verify-full sslrootcert={certificate}",
                self.port
            );
            let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            serves("PostgreSQL", "t", &mut || {
                let said = run(Command::new(programs.join("psql")).args(["-At", "-c", query, &to]));
                said.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
            })?;
        }
        Ok(())
    }
}

impl Installed {
    fn find() -> Option<Self> {
        let uid = run(Command::new("id").args(["-u", "postgres"])).ok()?;
        Some(Self {
            programs: Postgres::programs().ok()?,
            uid: uid.trim().to_owned(),
        })
    }
}

fn unit(name: &str) -> String {
    format!("lent-to-{name}.service")
}

/// Where a unit's configuration may name its credential: systemd's path, which does not change.
fn credential(name: &str) -> String {
    format!("/run/credentials/{}/K", unit(name))
}

fn cell(report: &mut Report, found: &mut BTreeMap<String, String>, name: &str, works: bool, why: impl Fn() -> String) {
    report.row(&format!("delivery/{name}-credential-{WORKS}"), works, why);
    found.insert(name.to_owned(), WORKS.to_owned());
}

/// Programs and their cell in the column `credential`, and those of which `tried` says no.
fn column(text: &str, tried: impl Fn(&str) -> bool) -> (BTreeMap<String, String>, Vec<String>) {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let mut cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let place = cells
        .next()
        .and_then(|heads| heads.iter().position(|head| *head == "credential"));
    let (mut said, mut missing) = (BTreeMap::new(), Vec::new());
    for row in cells {
        let (Some(name), Some(truth)) = (row.first(), place.and_then(|place| row.get(place))) else {
            continue;
        };
        if tried(name) {
            said.insert((*name).to_owned(), (*truth).to_owned());
        } else if *truth != "—" {
            missing.push((*name).to_owned());
        }
    }
    (said, missing)
}
