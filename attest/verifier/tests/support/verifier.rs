//! The real binary, made by `init` in a fresh directory, with an SSH key that may sign policies.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rempart_attest::policy::{Image, Policy};
use rempart_attest::{Bank, Digest, Pcrs};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::client::Client;
use super::run;

pub const ID: &str = "https://verifier.test:8443";
const BIN: &str = env!("CARGO_BIN_EXE_rempart-verifier");

pub struct Verifier {
    dir: Arc<TempDir>,
    configuration: &'static str,
    root: CertificateDer<'static>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

/// What is not as in every test.
#[derive(Default)]
pub struct Setup<'a> {
    /// The TPMs' manufacturers; none: first use.
    pub ek_roots: &'a [PathBuf],
    /// Identifier; empty: [`ID`].
    pub id: String,
    /// Port; 0: any.
    pub port: u16,
    /// More lines of the configuration, tables among them.
    pub more: String,
}

impl Verifier {
    pub fn new(ek_roots: &[PathBuf]) -> Self {
        Self::with(&Setup {
            ek_roots,
            ..Setup::default()
        })
    }

    pub fn with(setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let tls = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
        fs::write(dir.path().join("tls.pem"), tls.cert.pem()).expect("file");
        fs::write(dir.path().join("tls.key"), tls.signing_key.serialize_pem()).expect("file");
        for key in ["owner", "second", "stranger"] {
            run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key],
                &[],
                dir.path(),
            );
        }
        let signer = |key: &str| {
            let public = fs::read_to_string(dir.path().join(format!("{key}.pub"))).expect("key");
            format!("{key}@example namespaces=\"rempart-policy\" {public}")
        };
        fs::write(dir.path().join("signers"), signer("owner") + &signer("second")).expect("file");
        let (id, listen) = (
            if setup.id.is_empty() { ID } else { &setup.id },
            format!("127.0.0.1:{}", setup.port),
        );
        let mut args = vec!["init", "--dir", "state", "--id", id, "--listen", &listen];
        args.extend(["--tls-certificate", "tls.pem", "--tls-key", "tls.key"]);
        args.extend(["--allowed-signers", "signers"]);
        for root in setup.ek_roots {
            args.extend(["--ek-root", root.to_str().expect("path")]);
        }
        run(BIN, &args, &[], dir.path());
        let made = Self {
            root: tls.cert.der().clone(),
            dir: Arc::new(dir),
            configuration: "state/verifier.toml",
            running: None,
        };
        // The lines come first: a key after a table would be the table's.
        let file = made.path("state/verifier.toml");
        let text = fs::read_to_string(&file).expect("configuration") + &setup.more;
        fs::write(file, text).expect("written");
        made
    }

    /// A second replica: the same keys and configuration, a port of its own.
    pub fn replica(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            configuration: self.configuration,
            root: self.root.clone(),
            running: None,
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _gone = running.child.kill();
            let _waited = running.child.wait();
        }
    }

    /// Peak of the memory that the process ever had, KiB.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.running.as_ref().expect("started").child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("peak");
        line.trim().trim_end_matches(" kB").parse().expect("number")
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<String> {
        self.running.as_ref().expect("started").log.lock().expect("log").clone()
    }

    pub fn start(&mut self) {
        let mut child = Command::new(BIN)
            .args(["--config", self.configuration, "serve"])
            .current_dir(self.dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("verifier");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).expect("log"), 0, "the verifier ended");
            if let Some(port) = line
                .trim()
                .rsplit_once("listening on 127.0.0.1:")
                .and_then(|(_, p)| p.parse().ok())
            {
                break port;
            }
        };
        let log = Arc::new(Mutex::new(vec![]));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                println!("{line}");
                kept.lock().expect("log").push(line);
            }
        });
        self.running = Some(Running { child, port, log });
    }

    pub fn port(&self) -> u16 {
        self.running.as_ref().expect("started").port
    }

    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub fn connect(&self) -> Client {
        self.connect_with(&[&rustls::version::TLS13]).expect("connects")
    }

    pub fn connect_with(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Result<Client, String> {
        Client::connect(self.port(), &self.root, versions)
    }

    pub fn command(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(BIN)
            .args(["--config", self.configuration])
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("verifier");
        let _closed_early = child.stdin.take().expect("piped").write_all(stdin);
        child.wait_with_output().expect("ends")
    }

    /// A command that must succeed.
    pub fn run(&self, args: &[&str], stdin: &[u8]) -> String {
        let output = self.command(args, stdin);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// A command that changes what the running server knows, and the moment that this takes.
    pub fn change(&self, args: &[&str]) {
        self.run(args, b"");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }

    /// Writes and signs a policy; gives its file name.
    pub fn sign(&self, policy: &Policy, key: &str, namespace: &str) -> String {
        let name = format!("{}-{}.toml", policy.counter, key);
        let _fresh = fs::remove_file(self.dir.path().join(format!("{name}.sig")));
        fs::write(self.path(&name), policy.to_toml()).expect("file");
        run(
            "ssh-keygen",
            &["-q", "-Y", "sign", "-f", key, "-n", namespace, &name],
            &[],
            self.dir.path(),
        );
        name
    }

    /// Signs a file that is there; gives the signature.
    pub fn sign_again(&self, name: &str, key: &str, namespace: &str) -> String {
        run(
            "ssh-keygen",
            &["-q", "-Y", "sign", "-f", key, "-n", namespace, name],
            &[],
            self.dir.path(),
        );
        fs::read_to_string(self.path(&format!("{name}.sig"))).expect("signature")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A policy that accepts exactly these registers.
pub fn policy(pcrs: &[(u8, Digest)], counter: u64) -> Policy {
    let pcrs = Pcrs::collect(Bank::Sha256, pcrs.iter().copied()).expect("each register once");
    let value = |index| vec![pcrs.value(index).expect("register")];
    let image = Image {
        pcr4: value(4),
        pcr7: value(7),
        pcr9: value(9),
        pcr11: value(11),
        pcr12: value(12),
        ..Image::new("recorded", Bank::Sha256)
    };
    Policy {
        name: "recorded boot".into(),
        counter,
        ..Policy::of(vec![image])
    }
}
