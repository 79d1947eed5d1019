//! One real rempart-verifier in a fresh folder: its keys and registry by its own `init`, a signed policy, and a registry filled in
//! one transaction, because a million enrolments one by one are not what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rempart_attest::certificate::pem_to_ders;
use rempart_attest::testing::{Authority, policy};
use rempart_harness::{Pki, Process, cache_dir, free_port, run, wait_for_port};
use rusqlite::Connection;
use tempfile::TempDir;

use super::fleet;

/// The Verifier, not started yet.
pub struct Site {
    folder: TempDir,
    program: PathBuf,
    port: u16,
    /// The certificates that its TLS certificate chains to, PEM.
    pub ca: String,
}

/// The running Verifier.
pub struct Running {
    process: Process,
    /// From its start to the first accepted connection.
    pub ready: Duration,
    /// Its port on the loopback address.
    pub port: u16,
}

impl Site {
    /// Makes it with `enrolled` nodes.
    pub fn make(program: &Path, enrolled: usize) -> Result<Self> {
        fs::create_dir_all(cache_dir())?;
        // On a disk, as on a real server: the temporary folder may be memory.
        let folder = tempfile::Builder::new().prefix("verifier").tempdir_in(cache_dir())?;
        let pki = Pki::open()?;
        let site = Self {
            folder,
            program: program.to_owned(),
            port: free_port()?,
            ca: pki.ca_pem()?,
        };
        site.init(&pki)?;
        site.install_policy()?;
        site.fill(enrolled)?;
        Ok(site)
    }

    /// The authority that signs AK certificates.
    pub fn authority(&self) -> Result<Authority> {
        let read = |name: &str| fs::read_to_string(self.at("state").join(name)).with_context(|| name.to_owned());
        let mut ders = pem_to_ders(read("ca.pem")?.as_bytes())?;
        let der = ders.pop().context("ca.pem is empty")?;
        Ok(Authority::of(der, &read("ca.key")?, "Rempart AK authority"))
    }

    /// Starts it.
    pub fn start(&self) -> Result<Running> {
        let config = self.config();
        let began = Instant::now();
        let mut process = Process::start(
            "rempart-verifier",
            &self.program,
            &["--config", &config, "serve"],
            &self.at("verifier.log"),
        )?;
        while !wait_for_port(self.port) {
            process.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Running {
            process,
            ready: began.elapsed(),
            port: self.port,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        self.at("state/verifier.toml").display().to_string()
    }

    fn init(&self, pki: &Pki) -> Result<()> {
        let signer = self.at("signer");
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"])
            .arg(&signer))?;
        let public = fs::read_to_string(self.at("signer.pub"))?;
        fs::write(self.at("signers"), format!("owner {public}"))?;
        let tls = pki.identity("verifier");
        let mut init = Command::new(&self.program);
        init.arg("init").arg("--dir").arg(self.at("state"));
        init.args([
            "--id",
            "https://localhost",
            "--listen",
            &format!("127.0.0.1:{}", self.port),
        ]);
        init.arg("--tls-certificate").arg(tls.certificate);
        init.arg("--tls-key").arg(tls.key);
        init.arg("--allowed-signers").arg(self.at("signers"));
        run(&mut init)?;
        Ok(())
    }

    fn install_policy(&self) -> Result<()> {
        let file = self.at("policy.toml");
        fs::write(&file, policy().to_toml())?;
        run(Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", "rempart-policy", "-f"])
            .arg(self.at("signer"))
            .arg(&file))?;
        let config = self.config();
        run(Command::new(&self.program)
            .args(["--config", &config, "policy", "install"])
            .arg(&file))?;
        Ok(())
    }

    fn fill(&self, enrolled: usize) -> Result<()> {
        let mut registry = Connection::open(self.at("state/registry.sqlite"))?;
        let transaction = registry.transaction()?;
        {
            let mut node = transaction.prepare("INSERT INTO node (name, roles) VALUES (?1, 'bench')")?;
            let mut holder = transaction
                .prepare("INSERT INTO holder (node, ek, identity, since) VALUES (?1, ?2, 'certified', 1)")?;
            for number in 0..enrolled {
                let name = fleet::name(number);
                node.execute([&name])?;
                holder.execute((&name, fleet::ek(number).0.as_slice()))?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Running {
    /// A figure of /proc/PID/status, in MiB.
    pub fn memory(&self, key: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .with_context(|| key.to_owned())?;
        let kib: f64 = line
            .trim_start_matches(':')
            .split_whitespace()
            .next()
            .context("no figure")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time so far (proc(5), stat: utime and stime in ticks of 10 ms).
    pub fn processor_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        // The program's name stands in brackets and may hold anything.
        let (_, fields) = text.rsplit_once(") ").context("stat")?;
        let mut fields = fields.split(' ').skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("stat")?.parse()?) };
        Ok(Duration::from_millis(10 * (ticks()? + ticks()?)))
    }
}
