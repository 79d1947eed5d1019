//! A node in a container with everything real around it but the machine: rempart-verifier, OpenBao with TLS, a software
//! TPM, systemd 257, the installed package with its hardened units. Only the measurement logs are made up: the
//! container's firmware measured nothing, and the policy accepts just that.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::{
    resource::{Resource, getrlimit},
    signal::Signal,
};
use rempart_harness::{
    Container, OpenBao, Pki, Process, Root, Tpm, cache_dir, empty_logs, free_port, program, run, wait_for_port,
};
use tempfile::TempDir;

use crate::stamp::SECRET;

/// The value of every delivered secret.
pub const VALUE: &str = "correct horse battery staple";
/// This program inside.
pub const SELF: &str = "/usr/lib/rempart-test/rempart-bench";
/// OpenBao's program inside.
pub const BAO: &str = "/usr/lib/rempart-test/bao";
/// The host's files inside, if it was booted beside them; nobody can write there.
pub const HOST: &str = "/host";
/// A register that nothing was measured into, in hexadecimal.
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The agent's name at the Verifier.
const NODE: &str = "bench-1";
/// LimitMEMLOCK= of rempartd.service.
const LOCKED: u64 = 256 << 20;
/// Where this machine has less to give, even to root, the agent may lock what it likes instead: many releases at once need more.
const UNLIMITED: &str =
    "[Service]\nPrivateUsers=no\nCapabilityBoundingSet=CAP_IPC_LOCK\nAmbientCapabilities=CAP_IPC_LOCK\n";
/// From the agent's start to `unlocked`.
const UNLOCK: Duration = Duration::from_secs(60);

/// The node and its servers; all of it ends with this value.
pub struct Node {
    /// systemd, the agent, the units.
    pub container: Container,
    /// The vault.
    pub bao: OpenBao,
    _verifier: Process,
    swtpm: Option<Process>,
    swtpm_port: u16,
    tpm: Tpm,
    _folder: TempDir,
}

/// The lines that opt a unit in: one secret, delivered as an environment variable to `getenv` alone.
pub fn opt_in() -> String {
    format!("[X-Rempart]\nWrap=yes\nRole=bench\nSecret={SECRET}=kv/bench#value\nDeliver=getenv\n")
}

impl Node {
    /// Boots it with `units`, file name and text, and waits until the agent has unlocked the node.
    pub fn boot(deb: &Path, units: &[(String, String)]) -> Result<Self> {
        Self::with_files(deb, units, &[])
    }

    /// The same, where units find the host's programs below [`HOST`].
    pub fn boot_beside_host(deb: &Path, units: &[(String, String)]) -> Result<Self> {
        Self::with_files(deb, units, &[(Path::new("/"), HOST)])
    }

    fn with_files(deb: &Path, units: &[(String, String)], shown: &[(&Path, &str)]) -> Result<Self> {
        let folder = on_disk()?;
        let pki = Pki::open()?;
        let tpm = Tpm::manufacture()?;
        let swtpm_port = two_free_ports()?;
        let swtpm = tpm.serve(swtpm_port)?;
        let tcti = format!("swtpm:host=127.0.0.1,port={swtpm_port}");
        let port = free_port()?;
        let id = format!("https://localhost:{port}");
        let verifier = start_verifier(folder.path(), &pki, port, &id)?;
        let bao = OpenBao::start(&pki)?;
        bao.put_secret("bench", &[("value", VALUE)])?;
        bao.role("bench", &["bench"])?;
        bao.trust_verifier(&format!("{id}/.well-known/jwks.json"), &id)?;

        let root = Root::with(&[deb.to_owned()])?;
        root.write("/etc/hosts", "127.0.0.1 localhost\n")?;
        root.write("/etc/rempart/ca.pem", pki.ca_pem()?)?;
        root.write(
            "/etc/rempart/rempart.toml",
            format!(
                "[node]\nname = \"{NODE}\"\n[verifier]\nurl = \"{id}\"\nca = \"/etc/rempart/ca.pem\"\n[tpm]\ntcti = \"{tcti}\"\n\
                 [vault]\nkind = \"openbao\"\nurl = \"https://localhost:{}\"\nca = \"/etc/rempart/ca.pem\"\n\
                 [guard]\ndegraded = \"allow\"\n[tee]\nprovider = \"none\"\n[run]\nroles = [\"bench\"]\n",
                bao.port()
            ),
        )?;
        root.write("/usr/lib/rempart-test/logs", empty_logs())?;
        root.write(
            "/etc/systemd/system/rempart-evidence@.service.d/test.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/cat /usr/lib/rempart-test/logs\n",
        )?;
        if getrlimit(Resource::RLIMIT_MEMLOCK)?.1 < LOCKED {
            root.write("/etc/systemd/system/rempartd.service.d/test.conf", UNLIMITED)?;
        }
        fs::copy(std::env::current_exe()?, root.at(SELF))?;
        for (name, text) in units {
            root.write(&format!("/etc/systemd/system/{name}"), text)?;
        }
        // The agent syncs its audit log at each release: on a disk, as on a real node.
        let state = folder.path().join("state");
        fs::create_dir(&state)?;
        let container = root.boot(&[(&state, "/var/lib/rempart"), (bao.program(), BAO)], shown)?;
        let node = Self {
            container,
            bao,
            _verifier: verifier,
            swtpm: Some(swtpm),
            swtpm_port,
            tpm,
            _folder: folder,
        };
        node.wait_for_unlock()?;
        Ok(node)
    }

    /// Sends the TPM's process a signal.
    pub fn signal_tpm(&self, signal: Signal) {
        if let Some(process) = &self.swtpm {
            process.signal(signal);
        }
    }

    /// Ends the TPM; its state stays.
    pub fn stop_tpm(&mut self) {
        self.swtpm = None;
    }

    /// Starts it again, as after a reset of it.
    pub fn start_tpm(&mut self) -> Result<()> {
        self.swtpm = Some(self.tpm.serve(self.swtpm_port)?);
        Ok(())
    }

    /// Waits until the agent has unlocked the node.
    pub fn wait_for_unlock(&self) -> Result<()> {
        let unlocked = || {
            let status = self.container.output(&["rempart", "status", "--json"])?;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
            Ok(status["state"] == "unlocked")
        };
        if let Err(error) = self.container.wait_until(UNLOCK, "unlocked", unlocked) {
            bail!(
                "{error:#}\nthe agent's log:\n{}",
                self.container.journal("rempartd.service")?
            );
        }
        Ok(())
    }
}

/// A folder in the cache, which lies on a disk where the temporary folder may be memory.
fn on_disk() -> Result<TempDir> {
    fs::create_dir_all(cache_dir())?;
    Ok(tempfile::Builder::new().prefix("node").tempdir_in(cache_dir())?)
}

/// The lower of two free neighbouring ports: the TCTI expects the control port right above.
fn two_free_ports() -> Result<u16> {
    loop {
        let port = free_port()?;
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
}

fn start_verifier(folder: &Path, pki: &Pki, port: u16, id: &str) -> Result<Process> {
    let at = |name: &str| folder.join(name).display().to_string();
    let config = at("verifier/verifier.toml");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", &at("signer")]))?;
    fs::write(
        at("signers"),
        format!("owner {}", fs::read_to_string(at("signer.pub"))?),
    )?;
    let tls = pki.identity("verifier");
    let mut init = Command::new(program("rempart-verifier")?);
    init.args([
        "init",
        "--dir",
        &at("verifier"),
        "--id",
        id,
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    init.arg("--tls-certificate")
        .arg(tls.certificate)
        .arg("--tls-key")
        .arg(tls.key);
    for root in Tpm::authority_chain() {
        init.arg("--ek-root").arg(root);
    }
    run(init.args(["--allowed-signers", &at("signers")]))?;
    let policy = format!(
        "version = 1\nname = \"container\"\ncounter = 1\n[[image]]\nname = \"nothing measured\"\npcr4 = [\"{ZERO}\"]\n\
         pcr7 = [\"{ZERO}\"]\npcr9 = [\"{ZERO}\"]\npcr11 = [\"{ZERO}\"]\npcr12 = [\"{ZERO}\"]\n"
    );
    fs::write(at("policy.toml"), policy)?;
    run(Command::new("ssh-keygen").args([
        "-q",
        "-Y",
        "sign",
        "-n",
        "rempart-policy",
        "-f",
        &at("signer"),
        &at("policy.toml"),
    ]))?;
    let command = |arguments: &[&str]| -> Result<String> {
        run(Command::new(program("rempart-verifier")?)
            .args(["--config", &config])
            .args(arguments))
    };
    command(&["policy", "install", &at("policy.toml")])?;
    command(&["node", "add", NODE, "--role", "bench"])?;
    let args = ["--config", config.as_str(), "serve"];
    let log = folder.join("verifier.log");
    let mut process = Process::start("rempart-verifier", &program("rempart-verifier")?, &args, &log)?;
    process.wait_until(Duration::from_secs(20), || wait_for_port(port))?;
    Ok(process)
}

/// Runs a command inside with `input`; status, and stdout with stderr.
pub fn talk(container: &Container, arguments: &[&str], input: &str) -> Result<(bool, String)> {
    let mut command = container.command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).trim_end().to_owned(),
    ))
}

/// SHA-256 of `text` in hexadecimal, by the program that the units inside use.
pub fn sha256(container: &Container, text: &str) -> Result<String> {
    let (_, digest) = talk(container, &["sha256sum"], text)?;
    Ok(digest.trim_end_matches(['-', ' ']).to_owned())
}
