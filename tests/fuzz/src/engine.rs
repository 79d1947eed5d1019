//! One libFuzzer process: its limits, its log, how it ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rempart_fuzz::Target;

/// For one input: parsers take microseconds, cryptography in between some milliseconds, a busy machine is slow.
const TIMEOUT: &str = "-timeout=10";
/// For the whole process, MiB. What one input may hold is judged by the target itself, and far lower.
const RSS: &str = "-rss_limit_mb=1024";

/// The instrumented program.
pub struct Engine(PathBuf);

/// A process on one target.
pub struct Run {
    pub target: &'static Target,
    child: Child,
    log: PathBuf,
}

/// How a process ended.
pub struct Ended(ExitStatus);

/// What a target's hunt leaves behind, outside of the tree.
pub fn work(target: &Target) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let folder = cache.context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = folder.join("rempart/fuzz").join(target.name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The kept corpus, in the checkout that the current folder is in: `x` goes to its root.
pub fn corpus(target: &Target) -> PathBuf {
    Path::new("tests/fuzz/corpus").join(target.name)
}

impl Engine {
    pub fn new(file: &Path) -> Self {
        Self(file.to_owned())
    }

    fn command(&self, target: &Target) -> Result<Command> {
        let mut command = Command::new(&self.0);
        command.env("REMPART_FUZZ_TARGET", target.name);
        command.args([TIMEOUT, RSS]);
        command.arg(format!("-max_len={}", target.max_len));
        command.arg(format!("-artifact_prefix={}/", work(target)?.display()));
        Ok(command)
    }

    /// Starts on `folders`: new inputs go to the first, all are read.
    pub fn start(&self, target: &'static Target, options: &[&str], folders: &[&Path]) -> Result<Run> {
        let log = work(target)?.join("log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = self.command(target)?;
        command
            .args(options)
            .args(folders.iter().filter(|folder| folder.is_dir()));
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| self.0.display().to_string())?;
        Ok(Run { target, child, log })
    }

    /// Runs one input with everything shown.
    pub fn reproduce(&self, target: &Target, file: &Path) -> Result<bool> {
        Ok(self.command(target)?.arg(file).status()?.success())
    }
}

impl Run {
    /// How it ended, or nothing while it runs.
    pub fn ended(&mut self) -> Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(Ended))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<Ended> {
        Ok(Ended(self.child.wait()?))
    }

    /// The last line of figures: executions, coverage, corpus.
    pub fn progress(&self) -> String {
        let text = self.text();
        let line = text
            .lines()
            .rfind(|line| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_digit()));
        line.map_or_else(
            || "starting".into(),
            |line| line.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    }

    /// The inputs that it kept because they broke a promise, and the words of the panic.
    fn found(&self) -> Vec<String> {
        let said = |line: &&str| {
            line.contains("Test unit written to") || line.contains("panicked at") || line.starts_with("==")
        };
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let mut out: Vec<String> = Vec::new();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| said(line)) {
            out.push(line.trim().to_owned());
            // A panic's message stands in the line below its place.
            out.extend(
                lines
                    .get(at + 1)
                    .filter(|_| line.contains("panicked at"))
                    .map(|next| (*next).to_owned()),
            );
        }
        out
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Ended {
    /// No input broke a promise.
    pub fn clean(&self) -> bool {
        self.0.success()
    }

    /// In one line, with what was found.
    pub fn words(&self, run: &Run) -> String {
        if self.clean() {
            return format!("nothing found: {}", run.progress());
        }
        format!(
            "FOUND ({}): {}; log {}",
            self.0,
            run.found().join("; "),
            run.log.display()
        )
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // An interrupted hunt leaves no process behind.
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}
