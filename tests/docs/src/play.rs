//! The stage of the quick start: a node in a container, an owner's machine beside it, and a network of their own.
//!
//! Adds exactly what the page says under "What the test adds"; must never change a command of the page's.

use std::{
    env, fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use rempart_docs::{Step, missing};
use rempart_harness::{Container, Process, Root, Tpm, empty_logs, program, repository, run};
use tempfile::TempDir;

use crate::shell::Shell;

/// Set in the process that has the network.
const INSIDE: &str = "REMPART_OWN_NETWORK";
/// Of the software TPM, in that network; its control port is the next one.
const TPM_PORT: u16 = 2321;
/// What the machine lacks that the page is for.
const CONTAINER: &str =
    "[tpm]\ntcti = \"swtpm:host=127.0.0.1,port=2321\"\n[guard]\ndegraded = \"allow\"\n[tee]\nprovider = \"none\"\n";
/// A container may have a lower limit of locked memory than the unit asks for.
const UNLIMITED: &str =
    "[Service]\nPrivateUsers=no\nCapabilityBoundingSet=CAP_IPC_LOCK\nAmbientCapabilities=CAP_IPC_LOCK\n";
/// In the place of the firmware's log, which no container has: a log with its header alone.
const NO_LOG: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/cat /usr/lib/rempart-test/logs\n";

/// Starts this program again with mounts and a network of its own, in which the page's ports are free.
pub fn alone() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return run(Command::new("ip").args(["link", "set", "lo", "up"])).map(drop);
    }
    // What has to be fetched, as long as there is a network.
    bao()?;
    let work = tempfile::tempdir()?;
    let mut base = Command::new("unshare");
    base.args(["--mount", "--propagation", "private", "--"]);
    run(base
        .arg(repository().join("tests/systemd/container/root"))
        .arg(work.path()))?;
    drop(work);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "--"]);
    command.arg(env::current_exe()?).args(env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    Err(error).context("cannot run unshare")
}

/// Everything that runs.
pub struct Stage {
    node: Shell,
    owner: Shell,
    _container: Container,
    _swtpm: Process,
    _tpm: Tpm,
    _folder: TempDir,
}

impl Stage {
    /// Machines on which nobody has done anything yet.
    pub fn set(packages: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rempart-docs").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["owner/shared", "bin", "state"] {
            fs::create_dir_all(at(name))?;
        }
        let tpm = Tpm::manufacture()?;
        let swtpm = tpm.serve(TPM_PORT)?;
        let roots = Tpm::authority_chain().map(fs::read_to_string);
        let roots: Vec<String> = roots.into_iter().collect::<Result<_, _>>()?;
        fs::write(at("owner/tpm-roots.pem"), roots.concat())?;
        for name in ["rempart", "rempart-verifier"] {
            symlink(program(name)?, at("bin").join(name))?;
        }
        symlink(bao()?, at("bin/bao"))?;

        let root = Root::with(&[])?;
        for package in debs(packages)? {
            let name = package.file_name().context("a file")?;
            fs::copy(&package, root.at("/root").join(name))?;
        }
        root.write("/etc/rempart/conf.d/container.toml", CONTAINER)?;
        root.write("/etc/hosts", "127.0.0.1 localhost\n")?;
        root.write("/usr/lib/rempart-test/logs", empty_logs())?;
        root.write("/etc/systemd/system/rempart-evidence@.service.d/test.conf", NO_LOG)?;
        root.write("/etc/systemd/system/rempartd.service.d/test.conf", UNLIMITED)?;
        fs::create_dir_all(root.at("/root/shared"))?;
        let disks: [(&Path, &str); 2] = [
            (&at("owner/shared"), "/root/shared"),
            (&at("state"), "/var/lib/rempart"),
        ];
        let container = root.boot(&disks, &[])?;

        let mut node = container.command(&["bash"]);
        node.env("HOME", "/root").env("DEBIAN_FRONTEND", "noninteractive");
        let mut node = Shell::start(node, (container.root().at("/root/.block"), "/root/.block".into()))?;
        node.run("cd /root\n")?;
        Ok(Self {
            node,
            owner: owner(&at("owner"), &at("bin"))?,
            _container: container,
            _swtpm: swtpm,
            _tpm: tpm,
            _folder: folder,
        })
    }

    /// Does one step, and looks whether what it puts out is what the page says.
    pub fn play(&mut self, step: &Step) -> Result<()> {
        let shell = if step.owner { &mut self.owner } else { &mut self.node };
        let said = shell.run(&step.commands)?;
        match missing(&step.seen, &said) {
            None => Ok(()),
            Some(line) => bail!(
                "{}the page shows the line\n{line}\nand what came is\n{said}",
                step.commands
            ),
        }
    }
}

/// A shell in a process namespace of its own: what it leaves in the background ends with it.
fn owner(home: &Path, bin: &Path) -> Result<Shell> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "bash"]);
    let path = env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("HOME", home);
    command.current_dir(home);
    Shell::start(command, (home.join(".block"), home.join(".block")))
}

/// OpenBao's program.
fn bao() -> Result<PathBuf> {
    run(&mut Command::new(repository().join("tests/servers/openbao/bao"))).map(PathBuf::from)
}

/// The packages in `folder`.
fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{} has no packages; run ./x deb", folder.display());
    }
    Ok(found)
}
