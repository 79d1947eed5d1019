//! The real binary, made by `init` in a fresh directory, with an SSH key that may sign policies.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rempart_attest::policy::{Image, Policy};
use rempart_attest::{Bank, Digest, Pcrs};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::client::Client;
use super::run;

pub const ID: &str = "https://verifier.test:8443";
const BIN: &str = env!("CARGO_BIN_EXE_rempart-verifier");

pub struct Verifier {
    dir: TempDir,
    root: CertificateDer<'static>,
    running: Option<(Child, u16)>,
}

impl Verifier {
    pub fn new(ek_roots: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let tls = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
        fs::write(dir.path().join("tls.pem"), tls.cert.pem()).expect("file");
        fs::write(dir.path().join("tls.key"), tls.signing_key.serialize_pem()).expect("file");
        for key in ["owner", "stranger"] {
            run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key],
                &[],
                dir.path(),
            );
        }
        let public = fs::read_to_string(dir.path().join("owner.pub")).expect("key");
        fs::write(
            dir.path().join("signers"),
            format!("owner@example namespaces=\"rempart-policy\" {public}"),
        )
        .expect("file");
        let mut args = vec![
            "init",
            "--dir",
            "state",
            "--id",
            ID,
            "--listen",
            "127.0.0.1:0",
            "--tls-certificate",
            "tls.pem",
            "--tls-key",
            "tls.key",
            "--allowed-signers",
            "signers",
        ];
        for root in ek_roots {
            args.extend(["--ek-root", root.to_str().expect("path")]);
        }
        run(BIN, &args, &[], dir.path());
        Self {
            root: tls.cert.der().clone(),
            dir,
            running: None,
        }
    }

    pub fn start(&mut self) {
        let mut child = Command::new(BIN)
            .args(["--config", "state/verifier.toml", "serve"])
            .current_dir(self.dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("verifier");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).expect("log"), 0, "the verifier ended");
            if let Some(port) = line
                .trim()
                .rsplit_once("listening on 127.0.0.1:")
                .and_then(|(_, p)| p.parse().ok())
            {
                break port;
            }
        };
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|l| println!("{l}")));
        self.running = Some((child, port));
    }

    pub fn port(&self) -> u16 {
        self.running.as_ref().expect("started").1
    }

    pub fn connect(&self) -> Client {
        self.connect_with(&[&rustls::version::TLS13]).expect("connects")
    }

    pub fn connect_with(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Result<Client, String> {
        Client::connect(self.port(), &self.root, versions)
    }

    pub fn command(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(BIN)
            .args(["--config", "state/verifier.toml"])
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

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _gone = child.kill();
            let _waited = child.wait();
        }
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
