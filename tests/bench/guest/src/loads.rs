//! Real loads. Each server runs twice: one that no one protects and one that is a unit; in-guest has laid both one's files. What makes
//! the load is never protected. To add one: its lines in `Load::ALL`, `start` and `run`.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{FOLDER, Result, at, subject::Subject};

/// How long wrk asks; it takes whole seconds.
const WRK_SECONDS: u32 = 1;
/// Transactions of each of pgbench's two clients.
const PER_CLIENT: u32 = 200;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Requests of wrk to nginx.
    Web,
    /// Transactions of pgbench in PostgreSQL.
    Database,
    /// gcc, for a few files.
    Compiler,
}

impl Load {
    /// In the order of the table.
    pub const ALL: [Load; 3] = [Load::Web, Load::Database, Load::Compiler];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Load::Web => "nginx, one request of wrk",
            Load::Database => "PostgreSQL, one transaction of pgbench",
            Load::Compiler => "gcc, three files and their linking",
        }
    }

    /// How many requests, transactions or builds a run was, of which each took `nanoseconds`.
    pub fn operations(self, nanoseconds: f64) -> f64 {
        match self {
            Load::Web => f64::from(WRK_SECONDS) * 1e9 / nanoseconds,
            Load::Database => f64::from(2 * PER_CLIENT),
            Load::Compiler => 1.0,
        }
    }

    /// Has `subject` start the server that belongs to `name`, and waits until it answers.
    pub fn start(self, subject: &mut Subject, name: &str) -> Result<()> {
        let server = match self {
            Load::Web => format!("exec nginx -c {FOLDER}/nginx-{name}.conf"),
            Load::Database => format!(
                "exec setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/*/bin/postgres -D {FOLDER}/database-{name} \
                 -c unix_socket_directories={FOLDER}/database-{name} -c autovacuum=off -c checkpoint_timeout=1h >{FOLDER}/postgres-{name}.log 2>&1"
            ),
            Load::Compiler => return Ok(()),
        };
        subject.ask(&format!("start {server}"))?;
        let start = Instant::now();
        loop {
            let Err(why) = self.run(subject, name) else {
                return Ok(());
            };
            if start.elapsed() > Duration::from_secs(60) {
                return Err(why);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Nanoseconds of one request, transaction or build.
    pub fn run(self, subject: &mut Subject, name: &str) -> Result<f64> {
        match self {
            Load::Web => {
                let said = output(&format!(
                    "wrk -t1 -c4 -d{WRK_SECONDS} http://127.0.0.1:{}/",
                    if name == "unit" { 8081 } else { 8080 }
                ))?;
                if said.contains("Non-2xx") || said.contains("Socket errors") {
                    return Err(said);
                }
                number(&said, "Requests/sec:").map(|rate| 1e9 / rate)
            }
            Load::Database => {
                let said = output(&format!(
                    "/usr/lib/postgresql/*/bin/pgbench -h {FOLDER}/database-{name} -U postgres -n -N -c 2 -t {PER_CLIENT} bench"
                ))?;
                number(&said, "tps =").map(|rate| 1e9 / rate)
            }
            Load::Compiler => subject.number(&format!("time cd {FOLDER}/sources && sh ./build {name}")),
        }
    }
}

fn output(command: &str) -> Result<String> {
    let done = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .map_err(at(command))?;
    if !done.status.success() {
        return Err(format!(
            "{command}: {}",
            String::from_utf8_lossy(&done.stderr).trim().replace('\n', " / ")
        ));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The number behind `key`; a rate that is none would be taken for the best one.
fn number(said: &str, key: &str) -> Result<f64> {
    said.lines()
        .find_map(|line| line.trim().strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|text| text.parse().ok())
        .filter(|rate: &f64| *rate > 0.0)
        .ok_or_else(|| format!("no {key} in {}", said.replace('\n', " / ")))
}
