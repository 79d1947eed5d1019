//! One guest: firmware, TPM, UKI, dm-verity root, all writes thrown away, commands over a virtio-serial channel.
//!
//! The network is QEMU's user network with `restrict=on`: the guest reaches 10.0.2.100 on the forwarded ports and nothing else.

mod builder;
mod channel;
mod monitor;

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use builder::{GuestForward, VmBuilder};
use channel::Channel;
pub use channel::Output;
pub use monitor::Monitor;

use crate::process::tail;
use crate::{Process, TpmSocket};

/// A running machine; it and its TPM's emulator end with this value.
#[derive(Debug)]
pub struct Vm {
    process: Process,
    // Dropped after QEMU, whose end of the control socket it serves.
    tpm: Option<TpmSocket>,
    channel: Channel,
    console: PathBuf,
    started: Instant,
    dir: TempDir,
    _turn: File,
}

impl Vm {
    /// Waits for the test agent's first word, which comes early in the boot: most units are not started yet.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.channel.greeted(Duration::from_millis(500))? {
            if self.process.ended()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the guest did not come up in {limit:?}; its console ended with:\n{}",
                    tail(&self.console, 30)
                );
            }
        }
        Ok(())
    }

    /// Waits until systemd has no more jobs; whether some unit failed is not judged here. Returns systemd's word for the state.
    pub fn wait_booted(&mut self, limit: Duration) -> Result<String> {
        self.wait_ready(limit)?;
        let output = self.exec_for(&["systemctl", "is-system-running", "--wait"], b"", limit)?;
        Ok(output.stdout.trim().to_owned())
    }

    /// Runs a command as root, at most a minute.
    pub fn exec(&mut self, command: &[&str]) -> Result<Output> {
        self.exec_for(command, b"", Duration::from_secs(60))
    }

    /// Runs a command with its standard input and time limit; exit status 124 says that the limit was over.
    pub fn exec_for(&mut self, command: &[&str], stdin: &[u8], limit: Duration) -> Result<Output> {
        self.channel.call(command, stdin, limit).with_context(|| {
            format!(
                "the guest did not answer to {command:?}; its console ended with:\n{}",
                tail(&self.console, 15)
            )
        })
    }

    /// Runs a shell script that must succeed; its stdout.
    pub fn sh(&mut self, script: &str) -> Result<String> {
        let output = self.exec(&["sh", "-ec", script])?;
        if output.rc != 0 {
            bail!(
                "in the guest: {script}: exit status {}\n{}{}",
                output.rc,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// Tries `script` every second until it succeeds; its stdout.
    pub fn until(&mut self, script: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let output = self.exec(&["sh", "-ec", script])?;
            if output.rc == 0 {
                return Ok(output.stdout);
            }
            if Instant::now() > deadline {
                bail!(
                    "in the guest, not in {limit:?}: {script}: exit status {}\n{}{}",
                    output.rc,
                    output.stdout,
                    output.stderr
                );
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The journal of a unit in this boot, messages only.
    pub fn journal(&mut self, unit: &str) -> Result<String> {
        self.sh(&format!("journalctl -b -o cat --no-pager -u {unit}"))
    }

    /// Writes a file in the guest's throw-away overlay.
    pub fn push(&mut self, bytes: &[u8], path: &str, mode: &str) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$1")"; cat > "$1"; chmod "$2" "$1""#;
        let output = self.exec_for(
            &["sh", "-ec", script, "sh", path, mode],
            bytes,
            Duration::from_secs(120),
        )?;
        if output.rc != 0 {
            bail!("cannot write {path} in the guest: {}", output.stderr);
        }
        Ok(())
    }

    /// Powers off in order, so that units stop; an error if it takes longer than `limit`.
    pub fn power_off(mut self, limit: Duration) -> Result<()> {
        self.channel.send(&["systemctl", "--no-block", "poweroff"])?;
        self.process.wait_end(limit)?;
        Ok(())
    }

    /// The console so far.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// The console's file.
    #[must_use]
    pub fn console_path(&self) -> &Path {
        &self.console
    }

    /// Types on the console, as whoever owns the hardware can.
    pub fn type_on_console(&self, text: &str) -> Result<()> {
        let mut keyboard = UnixStream::connect(self.dir.path().join("console.sock"))?;
        keyboard.write_all(text.as_bytes())?;
        // Taken by the guest before the connection ends: QEMU drops what is left then.
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    /// QEMU's own side of the machine.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.dir.path().join("monitor"))
    }

    /// Time since QEMU was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// QEMU's process id: who runs the machine can read its memory there.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Nothing in a machine whose disks are thrown away wants to be asked first.
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        self.process.stop();
        if let Some(tpm) = self.tpm.take() {
            tpm.stop();
        }
        if std::thread::panicking() || std::env::var_os("REMPART_KEEP").is_some() {
            eprintln!("kept the machine's folder {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
    }
}
