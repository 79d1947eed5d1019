//! PCR 11 between us and systemd-measure: an image's predicted register is what it calculates in each bank and phase, and what it
//! signs by a TPM is accepted here. The image is made here, with just enough of a PE file around sections of any content.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rempart_attest::policy::predict::{Options, PHASES, predict};
use rempart_attest::policy::release::signatures::{PcrSignatures, ReleaseKey};
use rempart_attest::{Bank, Digest};

/// Images made here.
#[path = "support/uki.rs"]
mod uki;

const RELEASE_KEY: &str = "release.pub";

/// Sections that every systemd-measure knows.
fn sections() -> Vec<(&'static str, Vec<u8>)> {
    let odd_length: Vec<u8> = (0..5003u32).map(|n| (n % 251) as u8).collect();
    vec![
        (".linux", uki::pe(&[(".text", &odd_length)])),
        (".osrel", b"ID=test\nREMPART_IMAGE_COUNTER=3\n".to_vec()),
        (".cmdline", uki::CMDLINE.as_bytes().to_vec()),
        (".initrd", odd_length),
        (".splash", vec![0x42; 513]),
    ]
}

fn image() -> Vec<u8> {
    let sections = sections();
    let sections: Vec<(&str, &[u8])> = sections
        .iter()
        .map(|(name, content)| (*name, content.as_slice()))
        .collect();
    uki::unified(&sections)
}

fn systemd_measure() -> PathBuf {
    let path = PathBuf::from("/usr/lib/systemd/systemd-measure");
    assert!(
        path.exists(),
        "systemd-measure (Debian: systemd, later systemd-ukify) must be installed"
    );
    path
}

/// systemd-measure VERB over the image's sections, in both banks.
fn measure(folder: &Path, verb: &str, more: &[String]) -> String {
    let mut command = Command::new(systemd_measure());
    command.arg(verb).args(["--bank=sha256", "--bank=sha384"]).args(more);
    for (name, content) in sections() {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("write");
        command.arg(format!("--{}={}", &name[1..], path.display()));
    }
    let output = command.stdin(Stdio::null()).output().expect("runs");
    assert!(
        output.status.success(),
        "{verb}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn predicted(bank: Bank) -> Vec<Digest> {
    let options = Options {
        bank,
        phases: PHASES.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    predict(&image(), &options).expect("predicted").images[0].pcr11.clone()
}

#[test]
fn predictions_equal_what_systemd_measure_calculates_in_each_bank_and_phase() {
    let folder = tempfile::tempdir().expect("folder");
    let calculated = measure(folder.path(), "calculate", &["--json=short".to_owned()]);
    let calculated: serde_json::Value = serde_json::from_str(&calculated).expect("json");
    for bank in [Bank::Sha256, Bank::Sha384] {
        let values: Vec<Digest> = calculated[bank.to_string()]
            .as_array()
            .expect("a list for each bank")
            .iter()
            .map(|entry| Digest::from_hex(entry["hash"].as_str().expect("hex")).expect("digest"))
            .collect();
        assert_eq!(values.len(), PHASES.len());
        assert_eq!(predicted(bank), values, "{bank}");
    }
}

#[test]
fn what_systemd_measure_signs_is_accepted_for_the_predicted_registers() {
    let folder = tempfile::tempdir().expect("folder");
    let tpm = Swtpm::start(folder.path());
    let key = folder.path().join("release.key");
    let public = folder.path().join(RELEASE_KEY);
    openssl(&["genrsa", "-out"], &key, None);
    openssl(&["rsa", "-pubout", "-out"], &public, Some(&key));
    let signed = measure(
        folder.path(),
        "sign",
        &[
            format!("--private-key={}", key.display()),
            format!("--public-key={}", public.display()),
            // systemd before 255 computes the policy in a TPM.
            format!("--tpm2-device=swtpm:host=127.0.0.1,port={}", tpm.port),
        ],
    );
    let key = ReleaseKey::from_pem(&std::fs::read_to_string(&public).expect("key")).expect("an RSA key");
    let signatures = PcrSignatures::parse(signed.as_bytes()).expect("reads");
    for bank in [Bank::Sha256, Bank::Sha384] {
        for value in predicted(bank) {
            assert_eq!(signatures.verify(&key, 11, &value), Ok(()), "{bank} {value}");
        }
        assert!(signatures.verify(&key, 11, &bank.hash(&[b"another image"])).is_err());
    }
}

fn openssl(verb: &[&str], output: &Path, input: Option<&Path>) {
    let mut command = Command::new("openssl");
    command.args(verb).arg(output);
    if let Some(input) = input {
        command.arg("-in").arg(input);
    }
    let output = command.output().expect("openssl must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A software TPM, ended when dropped.
struct Swtpm {
    child: Child,
    port: u16,
}

impl Swtpm {
    fn start(folder: &Path) -> Self {
        let port = two_free_ports();
        let child = Command::new("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--flags",
                "not-need-init,startup-clear",
                "--tpmstate",
            ])
            .arg(format!("dir={}", folder.display()))
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
            .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
            .stdout(Stdio::null())
            .spawn()
            .expect("swtpm must be installed");
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_err() {
            assert!(Instant::now() < until, "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn two_free_ports() -> u16 {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = first.local_addr().expect("bound").port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}
