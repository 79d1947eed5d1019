//! A software TPM of its own for one test: made by swtpm_setup with EK certificates (RSA 2048 and ECC P-384), both banks active,
//! ended when dropped.

#![allow(dead_code, reason = "each test program uses its own part")]

/// tpm2-tools on such a TPM.
pub mod tools;

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rempart_device::{Tpm, TpmOptions};

/// A running swtpm.
pub struct Swtpm {
    child: Child,
    port: u16,
    state: tempfile::TempDir,
}

impl Swtpm {
    /// Makes and starts one.
    pub fn start() -> Self {
        let state = tempfile::tempdir().expect("temporary folder");
        let folder = state.path();
        // A local CA of the test's own: the system's one is not writable on every machine.
        let ca = folder.join("ca");
        std::fs::create_dir(&ca).expect("folder");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("write");
            path
        };
        let localca = write(
            "localca.conf",
            format!(
                "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuercert.pem\ncertserial = {0}/certserial\n",
                ca.display()
            ),
        );
        let options = write(
            "options.conf",
            "--platform-manufacturer Rempart\n--platform-version 1\n--platform-model test\n".into(),
        );
        let setup = write(
            "setup.conf",
            format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\nactive_pcr_banks = sha256,sha384\n",
                localca.display(),
                options.display()
            ),
        );
        let made = Command::new("swtpm_setup")
            .args([
                "--tpm2",
                "--create-ek-cert",
                "--overwrite",
                "--pcr-banks",
                "sha256,sha384",
                "--tpmstate",
            ])
            .arg(folder)
            .arg("--config")
            .arg(setup)
            .output()
            .expect("swtpm_setup must be installed");
        assert!(
            made.status.success(),
            "swtpm_setup: {}",
            String::from_utf8_lossy(&made.stdout)
        );
        let port = two_free_ports();
        let child = power_on(folder, port);
        let swtpm = Self { child, port, state };
        swtpm.wait();
        swtpm
    }

    /// Cuts its power, without TPM2_Shutdown, and powers it on again.
    pub fn cut_power(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = power_on(self.state.path(), self.port);
        self.wait();
    }

    /// Certificates of its manufacturer, PEM: issuer and root.
    pub fn manufacturer(&self) -> [std::path::PathBuf; 2] {
        ["issuercert.pem", "swtpm-localca-rootca-cert.pem"].map(|name| self.state.path().join("ca").join(name))
    }

    /// How to reach it.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// It, opened with `change` made to the defaults.
    pub fn open_with(&self, change: impl FnOnce(&mut TpmOptions)) -> Tpm {
        let mut options = TpmOptions::new(self.tcti());
        change(&mut options);
        Tpm::open(&options).expect("open")
    }

    /// It, opened with the defaults.
    pub fn open(&self) -> Tpm {
        self.open_with(|_| ())
    }

    /// Waits for the control port: a connection to the command port would end swtpm when it closes.
    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port + 1)).is_err() {
            assert!(Instant::now() < until, "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The number of transient objects and sessions in the TPM: none, whenever nothing is being done.
pub fn loaded(swtpm: &Swtpm) -> usize {
    let tools = tools::Tools::new(swtpm);
    ["handles-transient", "handles-loaded-session", "handles-saved-session"]
        .iter()
        .map(|kind| tools.run("tpm2_getcap", &[kind]).lines().count())
        .sum()
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn power_on(state: &std::path::Path, port: u16) -> Child {
    Command::new("swtpm")
        .args([
            "socket",
            "--tpm2",
            "--flags",
            "not-need-init,startup-clear",
            "--tpmstate",
        ])
        .arg(format!("dir={}", state.display()))
        .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
        .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
        .stdout(Stdio::null())
        .spawn()
        .expect("swtpm must be installed")
}

/// The lower of two free neighbouring ports: the swtpm TCTI expects the control port right above.
fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = first.local_addr().expect("bound").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}
