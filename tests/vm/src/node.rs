//! A running guest, as its root sees it.

use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use rempart_harness::{Output, Tpm, Vm};
use serde::Deserialize;

use crate::{
    memory::{Frame, Memory, PAGE, Processor},
    report::Outcome,
};

const COMMAND: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(700);
/// Up to here a machine's memory has no hole (QEMU's q35).
const WITHOUT_A_HOLE: u64 = 2 << 30;

/// What `rempart status --json` says.
#[derive(Debug, Clone)]
pub struct State {
    /// booting, attesting, unlocked, locked; empty while the agent is away.
    pub word: String,
    /// One line.
    pub reason: String,
    /// All of it.
    pub status: serde_json::Value,
}

/// One line of `rempart events --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub seq: u64,
    pub vector: String,
    pub verdict: String,
    pub comm: String,
}

/// A machine, and the TPM that must live as long as it.
pub struct Node {
    vm: RefCell<Vm>,
    _tpm: Option<Tpm>,
}

impl Node {
    /// A machine that was powered on.
    pub fn new(vm: Vm, tpm: Option<Tpm>) -> Self {
        Self {
            vm: RefCell::new(vm),
            _tpm: tpm,
        }
    }

    /// Waits until it takes commands.
    pub fn wait_up(&self, patience: Duration) -> anyhow::Result<()> {
        self.vm
            .borrow_mut()
            .wait_ready(patience)
            .context("the guest does not take commands")
    }

    /// Does it take commands within `patience`?
    pub fn comes_up(&self, patience: Duration) -> bool {
        self.vm.borrow_mut().wait_ready(patience).is_ok()
    }

    /// Runs a shell command as root.
    pub fn sh(&self, script: &str) -> anyhow::Result<Output> {
        self.vm.borrow_mut().exec_for(&["/bin/sh", "-c", script], b"", COMMAND)
    }

    /// Runs a program as root with text on its standard input.
    pub fn exec_stdin(&self, command: &[&str], stdin: &str) -> anyhow::Result<Output> {
        self.vm.borrow_mut().exec_for(command, stdin.as_bytes(), COMMAND)
    }

    /// The agent's state now.
    pub fn state(&self) -> anyhow::Result<State> {
        let out = self.sh("rempart status --json")?;
        let status: serde_json::Value = serde_json::from_str(out.stdout.trim()).unwrap_or_default();
        let text = |key: &str| status[key].as_str().unwrap_or("").to_owned();
        Ok(State {
            word: text("state"),
            reason: text("reason"),
            status,
        })
    }

    fn wait_state(&self, patience: Duration, enough: impl Fn(&State) -> bool) -> anyhow::Result<State> {
        let end = Instant::now() + patience;
        loop {
            let state = self.state()?;
            if enough(&state) || Instant::now() > end {
                return Ok(state);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for `unlocked` or `locked`; gives the last state seen when it takes longer.
    pub fn wait_settled(&self, patience: Duration) -> anyhow::Result<State> {
        self.wait_state(patience, |state| state.word == "unlocked" || state.word == "locked")
    }

    /// Waits for one state; gives the last one seen when it takes longer.
    pub fn wait_word(&self, word: &str, patience: Duration) -> anyhow::Result<State> {
        self.wait_state(patience, |state| state.word == word)
    }

    /// Waits until the agent gives a reason.
    pub fn wait_reason(&self, patience: Duration) -> anyhow::Result<State> {
        self.wait_state(patience, |state| !state.reason.is_empty())
    }

    /// Repeats a command until its output contains `wanted`; gives the last output.
    pub fn wait_for(&self, script: &str, wanted: &str, patience: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + patience;
        loop {
            let out = self.sh(&format!("{script}; true"))?.stdout;
            if out.contains(wanted) || Instant::now() > end {
                return Ok(out);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The main process of a unit.
    pub fn main_pid(&self, unit: &str) -> anyhow::Result<String> {
        let pid = self
            .sh(&format!("systemctl show {unit} -p MainPID --value"))?
            .stdout
            .trim()
            .to_owned();
        anyhow::ensure!(!pid.is_empty() && pid != "0", "{unit} has no main process");
        Ok(pid)
    }

    /// Starts a unit; the outcome and the last line of Rempart in its journal.
    pub fn start_raw(&self, unit: &str) -> anyhow::Result<(Outcome, String)> {
        self.operate("start", unit)
    }

    /// Restarts a unit likewise.
    pub fn restart_raw(&self, unit: &str) -> anyhow::Result<(Outcome, String)> {
        self.operate("restart", unit)
    }

    fn operate(&self, verb: &str, unit: &str) -> anyhow::Result<(Outcome, String)> {
        let script = format!(
            "systemctl reset-failed {unit} 2>/dev/null; c=$(journalctl -b -n0 --show-cursor | sed -n 's/^-- cursor: //p'); \
             timeout 25 systemctl {verb} {unit} >/dev/null 2>&1; rc=$?; journalctl --sync; sleep 1; \
             echo \"rc=$rc active=$(systemctl is-active {unit})\"; \
             journalctl -b -o cat --after-cursor=\"$c\" -u {unit} -u rempart-gate.service | grep -i '^rempart' | tail -1; true"
        );
        let out = self.sh(&script)?.stdout;
        let (first, line) = out.split_once('\n').unwrap_or((&out, ""));
        let seen = match first {
            "rc=0 active=active" => Outcome::Works,
            _ if first.contains("active=active") => Outcome::Broken,
            _ => Outcome::Denied,
        };
        Ok((seen, line.trim().to_owned()))
    }

    /// Starts a unit that must be refused with a line of ours.
    pub fn start_expecting_refusal(&self, unit: &str) -> anyhow::Result<(Outcome, String)> {
        self.start_raw(unit).map(demand_a_line)
    }

    /// Restarts a unit that must be refused with a line of ours.
    pub fn restart_expecting_refusal(&self, unit: &str) -> anyhow::Result<(Outcome, String)> {
        self.restart_raw(unit).map(demand_a_line)
    }

    /// Restarts a unit that must start.
    pub fn restart_expecting_start(&self, unit: &str) -> anyhow::Result<(Outcome, String)> {
        self.restart_raw(unit)
    }

    /// Restarts the agent, by systemd.
    pub fn restart_agent(&self) -> anyhow::Result<()> {
        let out = self.sh("systemctl stop rempart-gate.service; systemctl restart rempartd.service; systemctl start --no-block rempart-unlocked.target")?;
        anyhow::ensure!(out.rc == 0, "the agent does not restart: {}", out.stderr);
        Ok(())
    }

    /// Sequence number of the last event, if there was any.
    pub fn last_event(&self) -> anyhow::Result<Option<u64>> {
        Ok(self.events_since(None)?.iter().map(|event| event.seq).max())
    }

    /// Events after `seq`; all of them without it.
    pub fn events_since(&self, seq: Option<u64>) -> anyhow::Result<Vec<Event>> {
        let out = self.sh("rempart events --json -n 1000")?;
        let events = out
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Event>(line).ok());
        Ok(events.filter(|event| seq.is_none_or(|seq| event.seq > seq)).collect())
    }

    /// Waits for one of `words` on the console; the line.
    pub fn wait_console(&self, words: &[&str], patience: Duration) -> anyhow::Result<Option<String>> {
        let end = Instant::now() + patience;
        loop {
            let text = self.vm.borrow().console();
            // From the word on: what stands before it may be a terminal's control sequences.
            let from_word = |line: &str| {
                words
                    .iter()
                    .find_map(|word| line.find(word))
                    .map(|at| line[at..].trim().to_owned())
            };
            if let Some(line) = text.lines().find_map(from_word) {
                return Ok(Some(line));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Types a line on the console; does `answer` appear there within `patience`?
    pub fn answers_on_console(&self, line: &str, answer: &str, patience: Duration) -> anyhow::Result<bool> {
        self.vm.borrow().type_on_console(&format!("\r{line}\r"))?;
        Ok(self.wait_console(&[answer], patience)?.is_some())
    }

    /// All of the machine's memory at one moment, and its processors; through a file in `scratch`. The machine stands still meanwhile.
    pub fn snapshot(&self, scratch: &Path) -> anyhow::Result<(Memory, Vec<Processor>)> {
        let file = scratch.join("memory");
        let mut monitor = self.vm.borrow().monitor()?;
        let size = monitor.memory_size()?;
        anyhow::ensure!(size <= WITHOUT_A_HOLE, "{size} bytes of memory have a hole below 4 GiB");
        monitor.stop()?;
        let taken = monitor.save(0, size, &file).and_then(|()| monitor.registers());
        monitor.resume()?;
        let processors = Processor::all(&taken?);
        let memory = Memory(std::fs::read(&file)?);
        std::fs::remove_file(&file)?;
        Ok((memory, processors))
    }

    /// These frames as they are now, one after another.
    pub fn frames(&self, frames: &[Frame], scratch: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
        let file = scratch.join("frame");
        let mut monitor = self.vm.borrow().monitor()?;
        let mut read = |frame: &Frame| {
            let page = PAGE as u64;
            monitor.save(frame.0 * page, page, &file)?;
            Ok(std::fs::read(&file)?)
        };
        frames.iter().map(&mut read).collect()
    }

    /// How often `needle` lies in the machine's memory, read from the host as its operator can.
    pub fn count_in_guest_memory(&self, needle: &[u8]) -> anyhow::Result<usize> {
        let pid = self.vm.borrow().pid();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let ranges = maps.lines().filter_map(|line| {
            let (from, to) = line.split_whitespace().next()?.split_once('-')?;
            Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
        });
        let (start, end) = ranges
            .max_by_key(|(from, to)| to - from)
            .context("QEMU has no memory")?;
        let mut memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut window = vec![0u8; 4 << 20];
        let mut count = 0;
        let mut at = start;
        while at < end {
            memory.seek(SeekFrom::Start(at))?;
            let Ok(read) = memory.read(&mut window) else { break };
            if read < needle.len() {
                break;
            }
            count += window[..read]
                .windows(needle.len())
                .filter(|part| part == &needle)
                .count();
            at += (read - needle.len() + 1) as u64;
        }
        Ok(count)
    }
}

/// A refusal without a line of ours does not count as one.
fn demand_a_line((seen, line): (Outcome, String)) -> (Outcome, String) {
    let seen = if seen == Outcome::Denied && line.len() < 20 {
        Outcome::Broken
    } else {
        seen
    };
    (seen, line)
}
