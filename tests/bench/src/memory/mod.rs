//! What `Memory=secret` gives and costs: real programs under the preloaded heap, beside the same without it.
//!
//! A program is one file beside this one: how it is started with a secret, and how it is kept busy. A program that is not
//! installed is told and passed over.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rempart_harness::scan::Needle;

/// Copies of a secret: the test and its counts.
pub mod copies;
/// Times.
pub mod cost;
/// nginx, a master with workers and TLS.
mod nginx;
/// Redis.
mod redis;
/// Programs that read their secret from stdin.
mod scripts;

/// Longest that a program may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// Bytes of heap: more than any of these needs.
const HEAP: &str = "268435456";

/// How a program is started.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The heap's library; `None` for ordinary memory.
    pub library: Option<&'a Path>,
    /// For its files.
    pub folder: &'a Path,
}

impl Setting<'_> {
    /// As rempart-wrap starts it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(library) = self.library {
            command.env("LD_PRELOAD", library).env("REMPART_HEAP", HEAP);
            command.env("PYTHONMALLOC", "malloc");
        }
        command
    }
}

/// A program and how it shows what it knows.
pub trait Program {
    /// Its name in tests and tables.
    fn name(&self) -> &'static str;
    /// Where it may be.
    fn files(&self) -> &'static [&'static str];
    /// Starts it with its secrets in it, all of `needles`.
    fn start(&self, file: &Path, setting: Setting<'_>) -> Result<Running>;
    /// Kinds of values that are known to stay in memory of other kinds than the C heap.
    fn uncovered(&self) -> &'static [&'static str] {
        &[]
    }
    /// A command that does nothing and ends, for the time of a start.
    fn nothing(&self) -> Option<&'static [&'static str]> {
        None
    }
    /// Figures of its work: name, unit, value, and whether more is better.
    fn work(&self, file: &Path, setting: Setting<'_>) -> Result<Vec<Figure>>;
}

/// One figure of a program's work.
#[derive(Debug)]
pub struct Figure {
    what: &'static str,
    unit: &'static str,
    value: f64,
}

/// All of them.
const PROGRAMS: [&dyn Program; 5] = [
    &nginx::Nginx,
    &redis::Redis,
    &scripts::PYTHON,
    &scripts::BASH,
    &scripts::NODE,
];

/// Where the program is installed.
fn installed(program: &dyn Program) -> Option<PathBuf> {
    program.files().iter().map(PathBuf::from).find(|path| path.is_file())
}

/// A program that runs, with its children; all of them end with this.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
    needles: Vec<Needle>,
}

impl Running {
    fn start(command: &mut Command, needles: Vec<Needle>) -> Result<Self> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: child.stdout.take().map(BufReader::new),
            child,
            needles,
        })
    }

    /// Writes to its stdin.
    fn say(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("stdin is closed")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }

    /// A line from its stdout.
    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.as_mut().context("no stdout")?.read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended");
        Ok(line.trim().to_owned())
    }

    /// Until `ready` says so.
    fn until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            ensure!(start.elapsed() < READY, "it is not ready");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Itself and all below it.
    fn pids(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            next += 1;
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
