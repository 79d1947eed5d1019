//! One shell for all blocks of a machine, so that what a block sets is there in the next one, as in a reader's terminal.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Ends a block's output.
const END: &str = "== end of the block";

/// A running bash.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where a block lies: as seen from here, and as the shell sees it.
    block: (PathBuf, PathBuf),
}

impl Shell {
    /// Starts `command`, which is a bash that reads commands from standard input. It ends at the first command that fails.
    pub fn start(mut command: Command, block: (PathBuf, PathBuf)) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        writeln!(input, "set -euo pipefail; exec 2>&1")?;
        Ok(Self {
            child,
            input,
            output,
            block,
        })
    }

    /// Runs one block; what it put out.
    pub fn run(&mut self, commands: &str) -> Result<String> {
        fs::write(&self.block.0, commands)?;
        writeln!(self.input, ". '{}' </dev/null; echo '{END}'", self.block.1.display())?;
        self.input.flush()?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!(
                    "the shell ended with {} in:\n{commands}it said:\n{said}",
                    self.child.wait()?
                );
            }
            if line.trim_end() == END {
                return Ok(said);
            }
            said.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
