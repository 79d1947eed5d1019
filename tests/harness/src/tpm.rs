//! An emulated TPM with an endorsement certificate under a certificate authority of our own, the stand-in for a manufacturer's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Process, cache_dir, run, wait_for_port};

/// One TPM: its state outlives the machines that use it, so its keys stay the same from boot to boot.
#[derive(Debug)]
pub struct Tpm {
    state: TempDir,
}

/// A running emulator that a machine, or a program through TCTI, can use.
#[derive(Debug)]
pub struct TpmSocket {
    path: PathBuf,
    process: Process,
}

impl Tpm {
    /// Manufactures one: EK, EK certificate, platform certificate, SHA-256 bank only.
    pub fn manufacture() -> Result<Self> {
        let authority = authority_dir();
        fs::create_dir_all(&authority)?;
        let config = write_config(&authority)?;
        // The authority makes itself at the first certificate, and its serial number is a file: one at a time.
        let turn = fs::File::create(authority.join("lock"))?;
        turn.lock()?;
        let state = tempfile::Builder::new().prefix("rempart-tpm").tempdir()?;
        let mut command = Command::new("swtpm_setup");
        command.args([
            "--tpm2",
            "--create-ek-cert",
            "--create-platform-cert",
            "--pcr-banks",
            "sha256",
            "--overwrite",
        ]);
        command
            .arg("--tpm-state")
            .arg(state.path())
            .arg("--config")
            .arg(config)
            .arg("--logfile")
            .arg(state.path().join("setup.log"));
        run(&mut command).with_context(|| fs::read_to_string(state.path().join("setup.log")).unwrap_or_default())?;
        Ok(Self { state })
    }

    /// The manufacturer's chain, PEM files: issuer first, then its root.
    #[must_use]
    pub fn authority_chain() -> [PathBuf; 2] {
        [
            authority_dir().join("issuercert.pem"),
            authority_dir().join("swtpm-localca-rootca-cert.pem"),
        ]
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Starts it as QEMU wants it: a control socket.
    pub fn control_socket(&self) -> Result<TpmSocket> {
        let path = self.state.path().join("control.sock");
        self.start(
            &path,
            &["--ctrl".into(), format!("type=unixio,path={}", path.display())],
        )
    }

    /// Starts it for programs: started up, with TCTI `swtpm:path=SOCKET` as [`TpmSocket::tcti`] says.
    pub fn data_socket(&self) -> Result<TpmSocket> {
        let path = self.state.path().join("data.sock");
        let control = self.state.path().join("data.sock.ctrl");
        let args = [
            "--server".into(),
            format!("type=unixio,path={}", path.display()),
            "--ctrl".into(),
            format!("type=unixio,path={}", control.display()),
            "--flags".into(),
            "not-need-init,startup-clear".into(),
        ];
        self.start(&path, &args)
    }

    /// Starts it for programs in containers: started up, with TCTI `swtpm:host=127.0.0.1,port=PORT`. It takes the next port too.
    pub fn serve(&self, port: u16) -> Result<Process> {
        let args = [
            "socket".to_owned(),
            "--tpm2".into(),
            "--flags=not-need-init,startup-clear".into(),
            format!("--tpmstate=dir={}", self.state.path().display()),
            format!("--server=type=tcp,port={port},bindaddr=127.0.0.1"),
            format!("--ctrl=type=tcp,port={},bindaddr=127.0.0.1", port + 1),
        ];
        let mut process = Process::start("swtpm", Path::new("swtpm"), &args, &self.state.path().join("swtpm.log"))?;
        // Not the first port: swtpm ends when a connection to it closes.
        process.wait_until(Duration::from_secs(10), || wait_for_port(port + 1))?;
        Ok(process)
    }

    fn start(&self, path: &Path, more: &[String]) -> Result<TpmSocket> {
        let _ = fs::remove_file(path);
        let mut args = vec![
            "socket".to_owned(),
            "--tpm2".into(),
            "--tpmstate".into(),
            format!("dir={}", self.state.path().display()),
        ];
        args.extend_from_slice(more);
        let mut process = Process::start("swtpm", Path::new("swtpm"), &args, &self.state.path().join("swtpm.log"))?;
        process.wait_until(Duration::from_secs(10), || path.exists())?;
        Ok(TpmSocket {
            path: path.to_owned(),
            process,
        })
    }
}

impl TpmSocket {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The TCTI configuration for a data socket.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.path.display())
    }

    /// Stops the emulator; its state stays.
    pub fn stop(mut self) {
        self.process.stop();
    }
}

fn authority_dir() -> PathBuf {
    cache_dir().join("tpm-authority")
}

/// swtpm_setup takes the tool that signs, and that tool's own two files, by a configuration; all of it stays in the cache.
fn write_config(authority: &Path) -> Result<PathBuf> {
    let dir = authority.display();
    let write = |name: &str, text: String| -> Result<PathBuf> {
        let path = authority.join(name);
        let fresh = authority.join(format!("{name}.{}", std::process::id()));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &path)?;
        Ok(path)
    };
    let tool = [
        "/usr/bin/swtpm_localca",
        "/usr/share/swtpm/swtpm-localca",
        "/usr/lib/swtpm/swtpm-localca",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
    .context("swtpm_localca is not installed; run ./x deps")?;
    let local = write(
        "swtpm-localca.conf",
        format!(
            "statedir = {dir}\nsigningkey = {dir}/signkey.pem\nissuercert = {dir}/issuercert.pem\ncertserial = {dir}/certserial\n"
        ),
    )?;
    let options = write(
        "swtpm-localca.options",
        "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version 2.0\n--platform-manufacturer Rempart\n--platform-version 1\n--platform-model test\n"
            .to_owned(),
    )?;
    write(
        "swtpm_setup.conf",
        format!(
            "create_certs_tool={tool}\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\nactive_pcr_banks = sha256\n",
            local.display(),
            options.display()
        ),
    )
}
