//! What a lock means for units that run: those that say `OnLock=stop` are stopped, and started again, in the order in which they had started,
//! when the node is unlocked. A stop is asked for until systemd says that the unit has stopped.
//!
//! Must never start a unit that it has not stopped itself, nor call stopped what still runs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rempart_api::{bus::State as Word, job::Job};
use rempart_core::audit::What;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{audit::Audit, clock, jobs::Jobs, kept, node::Node, systemd::manager};

/// Between two looks while something is to be done.
const LOOK: Duration = Duration::from_secs(2);
/// Until a job that did not come about is asked for once more.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a start is asked for: a unit that fails by itself is its operator's.
const STARTS: u32 = 3;
/// One question to systemd.
const EXCHANGE: Duration = Duration::from_secs(10);
/// The end of the last attestation result is written anew when it has moved by more.
const MOVED: u64 = 30;

/// The units that a lock stops.
pub struct Lock {
    node: Arc<Node>,
    audit: Arc<Audit>,
    bus: zbus::Connection,
    jobs: Jobs,
    /// What an agent that is started again has to know.
    memory: PathBuf,
    units: Mutex<Units>,
}

/// In order of their starts; the file in the state folder.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Units {
    /// Until when the node was unlocked, in seconds since boot: an agent that is started again and cannot attest holds to it.
    until_s: u64,
    /// They run, with secrets.
    running: Vec<Running>,
    /// They were stopped by a lock.
    stopped: Vec<Stopped>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Running {
    unit: String,
    invocation: String,
    #[serde(skip)]
    asked: Option<Instant>,
    /// A lock is to stop it.
    stopping: bool,
    /// It was asked for, maybe by an agent before this one: if it stops now, that was the lock.
    ordered: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stopped {
    unit: String,
    #[serde(skip)]
    asked: Option<Instant>,
    #[serde(skip)]
    starts: u32,
}

impl Lock {
    /// With what an earlier agent of this boot has noted.
    pub fn remember(node: Arc<Node>, audit: Arc<Audit>, bus: zbus::Connection, jobs: Jobs, state: &Path) -> Arc<Self> {
        let memory = state.join("lock.json");
        let follows = "a lock stops no unit that runs now";
        let units = kept::of_boot(&memory, &clock::boot_word(), follows).unwrap_or_default();
        Arc::new(Self {
            node,
            audit,
            bus,
            jobs,
            memory,
            units: Mutex::new(units),
        })
    }

    /// `unit`, which says `OnLock=stop`, is about to get its secrets for this start.
    pub fn note(&self, unit: &str, invocation: &str) {
        let mut units = self.units();
        units.running.retain(|known| known.unit != unit);
        units.stopped.retain(|known| known.unit != unit);
        units.running.push(Running {
            unit: unit.to_owned(),
            invocation: invocation.to_owned(),
            asked: None,
            stopping: false,
            ordered: false,
        });
        self.write(&units);
    }

    /// It got none after all.
    pub fn unnote(&self, unit: &str, invocation: &str) {
        let mut units = self.units();
        units
            .running
            .retain(|known| known.unit != unit || known.invocation != invocation);
        self.write(&units);
    }

    /// Units that wait for the node to be unlocked, for people.
    pub fn stopped(&self) -> Vec<String> {
        self.units()
            .stopped
            .iter()
            .map(|stopped| stopped.unit.clone())
            .collect()
    }

    /// Units that a lock is to stop and that run all the same, for people.
    pub fn still_running(&self) -> Vec<String> {
        let units = self.units();
        let stopping = units.running.iter().filter(|running| running.stopping);
        stopping.map(|running| running.unit.clone()).collect()
    }

    /// Follows the node, for ever.
    pub async fn watch(self: Arc<Self>) {
        let (mut view, mut locks) = (self.node.view(), self.node.locks());
        loop {
            let (state, reason, until_us) = {
                let view = view.borrow_and_update();
                (view.state, view.reason.clone(), view.until_us)
            };
            // A lock that was over before it could be seen was one.
            if locks.has_changed().unwrap_or_default() {
                locks.mark_unchanged();
                self.all_are_to_stop();
            }
            match state {
                Word::Locked => self.all_are_to_stop(),
                Word::Unlocked => self.note_until(until_us),
                Word::Booting | Word::Attesting => {
                    if self.has_lapsed() {
                        self.all_are_to_stop();
                    }
                }
            }
            let mut busy = self.stop(&reason).await;
            if state == Word::Unlocked {
                busy |= self.start();
            }
            // While an agent that was started again cannot attest, only time tells.
            let waits = busy || matches!(state, Word::Booting | Word::Attesting);
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                _ = locks.changed() => locks.mark_changed(),
                () = tokio::time::sleep(LOOK), if waits => {}
            }
        }
    }

    fn note_until(&self, until_us: u64) {
        let left = until_us.saturating_sub(clock::unix_us()) / 1_000_000;
        let until = clock::boottime().as_secs() + left;
        let mut units = self.units();
        if units.until_s.abs_diff(until) > MOVED {
            units.until_s = until;
            self.write(&units);
        }
    }

    fn has_lapsed(&self) -> bool {
        let until = self.units().until_s;
        until != 0 && clock::boottime().as_secs() > until
    }

    fn all_are_to_stop(&self) {
        let mut units = self.units();
        if units.running.iter().all(|running| running.stopping) {
            return;
        }
        for running in &mut units.running {
            running.stopping = true;
        }
        self.write(&units);
    }

    /// Asks for stops that are due; whether some have not come about yet.
    async fn stop(&self, reason: &str) -> bool {
        let stopping: Vec<Running> = {
            let units = self.units();
            units
                .running
                .iter()
                .filter(|running| running.stopping)
                .cloned()
                .collect()
        };
        for running in &stopping {
            let runs = timeout(EXCHANGE, manager::runs(&self.bus, &running.unit, &running.invocation)).await;
            if matches!(runs, Ok(Ok(false))) {
                self.has_stopped(running);
                continue;
            }
            if running.asked.is_some_and(|asked| asked.elapsed() < PATIENCE) {
                continue;
            }
            let why = match running.asked {
                None => format!("the node is locked: {reason}"),
                Some(_) => "the node is locked, and the unit still runs".to_owned(),
            };
            self.ask(&running.unit, Job::Stop, &why);
            let mut units = self.units();
            let known = units
                .running
                .iter_mut()
                .find(|known| known.invocation == running.invocation);
            if let Some(known) = known {
                (known.asked, known.ordered) = (Some(Instant::now()), true);
                self.write(&units);
            }
        }
        !stopping.is_empty()
    }

    fn has_stopped(&self, running: &Running) {
        let mut units = self.units();
        units.running.retain(|known| known.invocation != running.invocation);
        // What had ended before it was asked is not ours to start.
        if running.ordered && !units.stopped.iter().any(|known| known.unit == running.unit) {
            units.stopped.push(Stopped {
                unit: running.unit.clone(),
                asked: None,
                starts: 0,
            });
        }
        self.write(&units);
    }

    /// Asks for the next start that is due; whether there are some. A unit that gets its secrets is taken off by [`Lock::note`].
    fn start(&self) -> bool {
        let due = {
            let mut units = self.units();
            let given_up: Vec<String> = units
                .stopped
                .iter()
                .filter(|stopped| {
                    stopped.starts == STARTS && stopped.asked.is_some_and(|asked| asked.elapsed() >= PATIENCE)
                })
                .map(|stopped| stopped.unit.clone())
                .collect();
            for unit in &given_up {
                tracing::error!("{unit} was stopped by a lock and does not start again; see: systemctl status {unit}");
            }
            units.stopped.retain(|stopped| !given_up.contains(&stopped.unit));
            if !given_up.is_empty() {
                self.write(&units);
            }
            let due = units.stopped.iter_mut().find(|stopped| {
                stopped.starts < STARTS && stopped.asked.is_none_or(|asked| asked.elapsed() >= PATIENCE)
            });
            due.map(|stopped| {
                stopped.asked = Some(Instant::now());
                stopped.starts += 1;
                stopped.unit.clone()
            })
        };
        if let Some(unit) = due {
            self.ask(&unit, Job::Start, "the node is unlocked");
        }
        !self.units().stopped.is_empty()
    }

    fn ask(&self, unit: &str, job: Job, reason: &str) {
        let record = What::Job {
            unit: unit.to_owned(),
            job: job.word().to_owned(),
            reason: reason.to_owned(),
        };
        // A stop that cannot be recorded is a stop all the same.
        if let Err(error) = self.audit.record(record) {
            tracing::error!("{error}");
        }
        match self.jobs.ask(unit, job) {
            Ok(()) => tracing::info!("{unit}: {} is asked for: {reason}", job.word()),
            Err(why) => tracing::error!("{unit}: {} cannot be asked for: {why}", job.word()),
        }
    }

    fn write(&self, units: &Units) {
        let follows = "after a restart of the agent a lock stops no unit that runs now";
        kept::keep(&self.memory, &clock::boot_word(), units, follows);
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        // Each change is one of a list; a panic leaves it whole.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
