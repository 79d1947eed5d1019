//! A booted Debian 13 in systemd-nspawn with our packages in it, for what needs a real systemd and no measured boot.
//!
//! It shares the host's kernel and loopback, so enforcement and measurement are not to be had here. Never a sandbox:
//! what runs inside is as trusted as the test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{Process, repository, run};

/// Set in the process that has the mount namespace.
const INSIDE: &str = "REMPART_OWN_MOUNTS";
/// Until systemd inside says that it has booted.
const BOOT: Duration = Duration::from_secs(90);

/// Starts this program again in a mount namespace of its own, unless it is in one. Call it first in `main`.
pub fn in_own_mounts() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    Err(error).context("cannot run unshare")
}

/// The file system before the boot.
#[derive(Debug)]
pub struct Root {
    work: TempDir,
}

/// The running container.
#[derive(Debug)]
pub struct Container {
    leader: u32,
    process: Process,
    root: Root,
}

impl Root {
    /// Makes one with `packages` installed. Wants [`in_own_mounts`].
    pub fn with(packages: &[PathBuf]) -> Result<Self> {
        let work = tempfile::Builder::new().prefix("rempart-container").tempdir()?;
        run(Command::new(repository().join("tests/systemd/container/root"))
            .arg(work.path())
            .args(packages))?;
        Ok(Self { work })
    }

    /// The host's path of `path` inside.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.work.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Writes a file inside, with its folders.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.at(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| path.display().to_string())
    }

    /// Boots it; `disks` are host files and folders that take the place of the path inside, for what must lie on a real disk;
    /// `shown` are those that can only be read.
    pub fn boot(self, disks: &[(&Path, &str)], shown: &[(&Path, &str)]) -> Result<Container> {
        let mut args: Vec<String> = [
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--system-call-filter=memfd_secret",
            "--capability=CAP_IPC_LOCK",
            "--boot",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--machine=rempart-{}", std::process::id()));
        args.push(format!("--directory={}", self.at("/").display()));
        for (option, places) in [("bind", disks), ("bind-ro", shown)] {
            for (outside, inside) in places {
                args.push(format!("--{option}={}:{inside}", outside.display()));
            }
        }
        // In a process namespace of its own, all of it ends with its first process, and that one with us.
        let mut command = [
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            "systemd-nspawn",
        ]
        .map(str::to_owned)
        .to_vec();
        command.extend(args);
        let mut process = Process::start_as(
            "systemd-nspawn",
            None,
            Path::new("unshare"),
            &command,
            &[("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")],
            &self.work.path().join("console.log"),
        )?;
        let outer = process.pid();
        let mut leader = 0;
        process.wait_until(BOOT, || {
            leader = init_of(outer).unwrap_or(0);
            leader != 0
        })?;
        let container = Container {
            leader,
            process,
            root: self,
        };
        container.wait_until(BOOT, "is-system-running", || {
            let state = container
                .output(&["systemctl", "is-system-running"])
                .unwrap_or_default();
            Ok(["running", "degraded"].contains(&state.as_str()))
        })?;
        Ok(container)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What is mounted in the folder would keep it from being removed.
        for mount in ["root", "upper"] {
            let _ = nix::mount::umount2(&self.work.path().join(mount), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl Container {
    /// A command that runs inside, as root.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd", "--"]);
        command.args(arguments).stdin(Stdio::null());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("SYSTEMD_PAGER", "");
        command
    }

    /// Runs a command inside; its stdout, or an error with everything it said.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String> {
        run(&mut self.command(arguments))
    }

    /// Runs a command inside; its stdout, however it ended.
    pub fn output<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String> {
        let output = self.command(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        self.run(&["systemctl", "show", "--value", "--property", name, unit])
    }

    /// What a unit logged in this boot, without dates.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.run(&["journalctl", "--sync"])?;
        self.output(&["journalctl", "--boot", "--output=cat", "--unit", unit])
    }

    /// Waits until `ready` says so.
    pub fn wait_until(&self, limit: Duration, what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !ready()? {
            if start.elapsed() > limit {
                let console = crate::process::tail(self.process.log(), 20);
                bail!("{what}: not in {limit:?}; the console ended with:\n{console}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Its file system.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // nspawn takes SIGTERM for a clean shutdown, which takes its time; nothing inside is worth that.
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
    }
}

/// The descendant that is process 1 inside.
fn init_of(ancestor: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{ancestor}/task/{ancestor}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find_map(|pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inside = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap_or_default();
            let first = status.starts_with("Name:\tsystemd\n") && inside.split_whitespace().last() == Some("1");
            if first { Some(pid) } else { init_of(pid) }
        })
}
