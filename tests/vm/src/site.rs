//! The owner's side: certificates, OpenBao, PostgreSQL, the Verifier with its registry, store and signed policy.
//!
//! Everything listens on loopback and ends with this value. The secret values are made anew for each run and are known only here,
//! to the vault and to the services.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rempart_harness::{Image, OpenBao, Pki, Postgres, Process, Tpm, free_port, program, run, wait_for_port};
use tempfile::TempDir;

use crate::report::{Outcome, Report};

/// The node's name, as baked into the image.
const NODE: &str = "demo-1";

/// The Verifier's identifier: the URL that the node's configuration has.
const ID: &str = "https://verifier.rempart.test:8443";

/// RFC 4648 base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The Verifier's process, and how to start it again.
pub struct Verifier {
    config: PathBuf,
    port: u16,
    log: PathBuf,
    process: Option<Process>,
}

impl Verifier {
    /// Starts it and waits for its port.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let args = ["serve".to_owned(), "--config".into(), self.config.display().to_string()];
        let mut process = Process::start("rempart-verifier", &program("rempart-verifier")?, &args, &self.log)?;
        let port = self.port;
        process.wait_until(Duration::from_secs(20), || wait_for_port(port))?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process = None;
        Ok(())
    }
}

/// All servers.
pub struct Site {
    folder: TempDir,
    image: Image,
    /// The password that PostgreSQL wants from `billing`.
    pub db_password: String,
    tls_key: String,
    /// The value of a unit whose program never looks at it.
    pub unread: String,
    pub bao: Option<OpenBao>,
    postgres: Postgres,
    pub verifier: Verifier,
    counter: u64,
}

impl Site {
    /// Brings all of it up.
    pub fn bring_up(image: Image, without_openbao: bool, report: &mut Report) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rempart-site").tempdir()?;
        let pki = Pki::open()?;
        let db_password = random_word()?;
        let tls_key = fs::read_to_string(pki.identity("web").key)?;

        report.step("PostgreSQL with SCRAM and TLS");
        let postgres = Postgres::start(&pki)?;
        postgres.login("billing", &db_password)?;
        postgres.login("billing_twin", "planted-twin-password-5d1c2f")?;

        report.step("rempart-verifier: authority, registry, store");
        let verifier = verifier(folder.path(), &pki)?;
        let mut site = Self {
            folder,
            image,
            db_password,
            tls_key,
            unread: random_word()?,
            bao: None,
            postgres,
            verifier,
            counter: 10,
        };
        site.verifier_command(
            &[
                "node", "add", NODE, "--role", "billing", "--role", "web", "--role", "idle",
            ],
            "",
        )?;
        for (name, role, value) in site.secrets() {
            site.verifier_command(&["secret", "set", &name, "--role", &role], &value)?;
        }
        site.verifier.start()?;

        report.step("policy predicted from the unified kernel image, signed with ssh-keygen, installed");
        site.install_image_policy()?;

        if without_openbao {
            report.step("without OpenBao, as asked: secrets come from the Verifier's own store");
        } else {
            report.step("OpenBao: TLS, audit device, KV, JWT auth that trusts the Verifier's keys");
            match OpenBao::start(&pki) {
                Ok(bao) => {
                    site.fill(&bao)?;
                    site.let_the_verifier_revoke(&bao, &pki)?;
                    site.bao = Some(bao);
                }
                Err(error) => report.step(&format!(
                    "no OpenBao here ({error:#}): secrets come from the Verifier's own store"
                )),
            }
        }
        Ok(site)
    }

    fn secrets(&self) -> [(String, String, String); 4] {
        [
            (
                "kv/billing#db_password".into(),
                "billing".into(),
                self.db_password.clone(),
            ),
            ("kv/web#tls_key".into(), "web".into(), self.tls_key.clone()),
            ("kv/idle#value".into(), "idle".into(), self.unread.clone()),
            (
                "kv/payroll#token".into(),
                "payroll".into(),
                "payroll-value-of-nobody".into(),
            ),
        ]
    }

    fn fill(&self, bao: &OpenBao) -> anyhow::Result<()> {
        bao.trust_verifier(
            &format!("https://127.0.0.1:{}/.well-known/jwks.json", self.verifier.port),
            ID,
        )?;
        for (name, role, value) in self.secrets() {
            let (path, field) = name.trim_start_matches("kv/").split_once('#').context("reference")?;
            bao.put_secret(path, &[(field, &value)])?;
            bao.role(&role, &[path])?;
        }
        Ok(())
    }

    /// Tells the Verifier where logins of a drifted node are stopped.
    fn let_the_verifier_revoke(&mut self, bao: &OpenBao, pki: &Pki) -> anyhow::Result<()> {
        let token = self.folder.path().join("vault-token");
        fs::write(&token, bao.root_token())?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        let text = fs::read_to_string(&self.verifier.config)?;
        let vault = format!(
            "\n[vault]\nurl = \"https://127.0.0.1:{}\"\nca = {:?}\nauth_mount = \"jwt\"\ntoken_file = {token:?}\n",
            bao.port(),
            pki.ca(),
        );
        fs::write(&self.verifier.config, text + &vault)?;
        self.verifier.stop()?;
        self.verifier.start()
    }

    /// Whether the vault has disabled the node's entity.
    pub fn entity_disabled(&mut self) -> anyhow::Result<bool> {
        let bao = self.bao()?;
        let list = bao.bao(&["list", "-format=json", "identity/entity/id"], None)?;
        for id in serde_json::from_str::<Vec<String>>(&list)? {
            let path = format!("identity/entity/id/{id}");
            let entity: serde_json::Value = serde_json::from_str(&bao.bao(&["read", "-format=json", &path], None)?)?;
            let aliases = entity["data"]["aliases"].as_array().cloned().unwrap_or_default();
            if aliases.iter().any(|alias| alias["name"] == NODE) {
                return Ok(entity["data"]["disabled"] == true);
            }
        }
        anyhow::bail!("the vault has no entity of {NODE}: it never logged in")
    }

    /// The vault; an error without one.
    pub fn bao(&mut self) -> anyhow::Result<&mut OpenBao> {
        self.bao.as_mut().context("no OpenBao")
    }

    /// A new folder in the run's own.
    pub fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Ports of 10.0.2.100 in the guest, and the loopback ports that they lead to.
    pub fn forwards(&self) -> Vec<(u16, u16)> {
        let mut ports = vec![(8443, self.verifier.port), (5432, self.postgres.port())];
        ports.extend(self.bao.as_ref().map(|bao| (8200, bao.port())));
        ports
    }

    /// What must not be found anywhere: the values of services, and a line from the middle of the TLS key.
    pub fn needles(&self) -> Vec<Vec<u8>> {
        vec![
            self.db_password.clone().into_bytes(),
            self.tls_key_line().to_vec(),
            self.unread.clone().into_bytes(),
        ]
    }

    /// The TLS key as it is delivered: a line from its middle.
    pub fn tls_key_line(&self) -> &[u8] {
        let mut lines = self.tls_key.lines().filter(|line| !line.starts_with("--"));
        lines.nth(1).unwrap_or(&self.tls_key).as_bytes()
    }

    /// The TLS key as a number of 32 bytes, most significant first (RFC 5915, `privateKey`).
    pub fn tls_key_number(&self) -> anyhow::Result<Vec<u8>> {
        let text: String = self.tls_key.lines().filter(|line| !line.starts_with("--")).collect();
        let der = STANDARD.decode(text)?;
        // version 1, then an octet string of 32 bytes
        let head = [2, 1, 1, 4, 32];
        let at = der
            .windows(head.len())
            .position(|part| part == head)
            .context("a key on P-256")?
            + head.len();
        Ok(der.get(at..at + 32).context("a key on P-256")?.to_vec())
    }

    /// A policy predicted from the image, with more arguments; its path and its counter.
    pub fn image_policy(&mut self, more: &[&str]) -> anyhow::Result<(PathBuf, u64)> {
        let counter = self.counter;
        let text = self.predict(&self.image, more)?;
        let path = self.folder.path().join(format!("policy-{counter}.toml"));
        fs::write(&path, text + "\n")?;
        self.sign(&path)?;
        Ok((path, counter))
    }

    /// What `rempart policy predict` says about an image; its refusal is an error.
    pub fn predict(&self, image: &Image, more: &[&str]) -> anyhow::Result<String> {
        run(Command::new(program("rempart")?)
            .args(["policy", "predict", "--name", "trixie-demo", "--counter"])
            .arg(self.counter.to_string())
            .args(more)
            .arg(image.uki()))
    }

    /// The same policy under another counter, signed.
    pub fn with_counter(&self, policy: &Path, counter: u64) -> anyhow::Result<PathBuf> {
        let text = fs::read_to_string(policy)?;
        let changed: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with("counter") {
                    format!("counter = {counter}")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        let path = self.folder.path().join(format!("policy-old-{counter}.toml"));
        fs::write(&path, changed.join("\n") + "\n")?;
        self.sign(&path)?;
        Ok(path)
    }

    /// A newer, rightly signed policy of another image: every digest of PCR 4 and 11 differs in one digit.
    pub fn foreign_policy(&mut self) -> anyhow::Result<PathBuf> {
        self.counter += 1;
        let (path, _) = self.image_policy(&[])?;
        let text = fs::read_to_string(&path)?;
        let mut judged = false;
        let flipped: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with("pcr") {
                    judged = line.starts_with("pcr4 ") || line.starts_with("pcr11 ");
                }
                match line.find('"').filter(|_| judged) {
                    Some(at) => {
                        let digit = if line.as_bytes().get(at + 1) == Some(&b'0') {
                            "1"
                        } else {
                            "0"
                        };
                        format!("{}{digit}{}", &line[..=at], &line[at + 2..])
                    }
                    None => line.to_owned(),
                }
            })
            .collect();
        fs::write(&path, flipped.join("\n") + "\n")?;
        self.sign(&path)?;
        Ok(path)
    }

    /// Installs the policy of the image under a new counter.
    pub fn install_image_policy(&mut self) -> anyhow::Result<()> {
        self.counter += 1;
        let (path, _) = self.image_policy(&[])?;
        let (seen, line) = self.install_policy(&path)?;
        anyhow::ensure!(seen == Outcome::Works, "the policy was not installed: {line}");
        Ok(())
    }

    /// Installs the policy of the image with other values for some registers, as an operator does who learnt them from a trusted boot.
    pub fn install_policy_with(&mut self, learnt: &[(u8, &str)]) -> anyhow::Result<()> {
        self.counter += 1;
        let (path, _) = self.image_policy(&[])?;
        let text = fs::read_to_string(&path)?;
        let replaced = |line: &str| learnt.iter().any(|(pcr, _)| line.starts_with(&format!("pcr{pcr} = [")));
        let mut lines: Vec<String> = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            inside |= replaced(line);
            if !inside {
                lines.push(line.to_owned());
            }
            inside &= !line.contains(']');
            if line.starts_with("[[image]]") {
                lines.extend(learnt.iter().map(|(pcr, value)| format!("pcr{pcr} = [\"{value}\"]")));
            }
        }
        fs::write(&path, lines.join("\n") + "\n")?;
        self.sign(&path)?;
        let (seen, line) = self.install_policy(&path)?;
        anyhow::ensure!(seen == Outcome::Works, "the policy was not installed: {line}");
        Ok(())
    }

    /// Gives a policy to the Verifier; what it said.
    pub fn install_policy(&self, path: &Path) -> anyhow::Result<(Outcome, String)> {
        let out = Command::new(program("rempart-verifier")?)
            .args(["policy", "install", "--config"])
            .arg(&self.verifier.config)
            .arg(path)
            .output()?;
        let said = String::from_utf8_lossy(if out.status.success() { &out.stdout } else { &out.stderr })
            .trim()
            .to_owned();
        Ok((
            if out.status.success() {
                Outcome::Works
            } else {
                Outcome::Denied
            },
            said,
        ))
    }

    fn sign(&self, path: &Path) -> anyhow::Result<()> {
        let signature = PathBuf::from(format!("{}.sig", path.display()));
        let _ = fs::remove_file(signature);
        run(Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", "rempart-policy", "-f"])
            .arg(self.folder.path().join("owner"))
            .arg(path))?;
        Ok(())
    }

    /// When the Verifier latched the node last, by its own history (Unix seconds): the moment of the appraisal that failed.
    pub fn latched_at(&self) -> anyhow::Result<u64> {
        let told = self.verifier_command(&["history", "--node", NODE, "--json"], "")?;
        let latched = told.lines().rev().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            entry["at"].as_u64().filter(|_| entry["what"] == "latched")
        });
        latched.with_context(|| format!("the Verifier never latched {NODE}: {told}"))
    }

    /// An operator's word that a node which drifted may attest again; nothing for one that did not.
    pub fn clear_node(&self) -> anyhow::Result<()> {
        match self.verifier_command(&["node", "clear", NODE], "") {
            Err(error) if !error.to_string().contains("is not latched") => Err(error),
            _ => Ok(()),
        }
    }

    fn verifier_command(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        use std::io::Write as _;
        let mut child = Command::new(program("rempart-verifier")?)
            .args(args)
            .arg("--config")
            .arg(&self.verifier.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(stdin.as_bytes())?;
        let out = child.wait_with_output()?;
        anyhow::ensure!(
            out.status.success(),
            "rempart-verifier {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Searches what the host holds: number of files, whether the control was found, and where secrets were.
    pub fn search_host(&mut self, control: &str, needles: &[Vec<u8>]) -> anyhow::Result<(usize, bool, Vec<String>)> {
        fs::write(self.folder.path().join("control"), control)?;
        let mut tops = vec![self.folder.path().to_owned(), self.image.dir().to_owned()];
        tops.extend(self.bao.as_ref().map(|bao| bao.folder().to_owned()));
        let (mut count, mut control_found, mut found) = (0, false, Vec::new());
        while let Some(path) = tops.pop() {
            if path.is_dir() {
                tops.extend(fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())));
                continue;
            }
            if !path.is_file() {
                continue;
            }
            let mut data = Vec::new();
            fs::File::open(&path)?.read_to_end(&mut data)?;
            count += 1;
            control_found |= contains(&data, control.as_bytes());
            found.extend(
                needles
                    .iter()
                    .enumerate()
                    .filter(|(_, n)| contains(&data, n))
                    .map(|(i, _)| format!("{i}: {}", path.display())),
            );
        }
        Ok((count, control_found, found))
    }
}

fn contains(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|part| part == needle)
}

fn verifier(folder: &Path, pki: &Pki) -> anyhow::Result<Verifier> {
    let port = free_port()?;
    let state = folder.join("verifier");
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "owner@rempart.test", "-f"])
        .arg(folder.join("owner")))?;
    let key = fs::read_to_string(folder.join("owner.pub"))?;
    fs::write(
        folder.join("allowed_signers"),
        format!("owner@rempart.test namespaces=\"rempart-policy\" {key}"),
    )?;
    let identity = pki.identity("verifier");
    let [issuer, root] = Tpm::authority_chain();
    let mut init = Command::new(program("rempart-verifier")?);
    init.args(["init", "--id", ID, "--listen", &format!("127.0.0.1:{port}"), "--dir"])
        .arg(&state);
    init.arg("--tls-certificate")
        .arg(identity.certificate)
        .arg("--tls-key")
        .arg(identity.key);
    init.arg("--ek-root").arg(issuer).arg("--ek-root").arg(root);
    run(init.arg("--allowed-signers").arg(folder.join("allowed_signers")))?;
    let config = state.join("verifier.toml");
    Ok(Verifier {
        config,
        port,
        log: folder.join("verifier.log"),
        process: None,
    })
}

/// 32 hexadecimal digits from the kernel.
fn random_word() -> anyhow::Result<String> {
    let mut bytes = [0u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
