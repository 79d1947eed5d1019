//! What a lock means for units that run: those that say `OnLock=stop` are stopped, and started again, in the order in which they had started,
//! when the node is unlocked.
//!
//! Must never start a unit that it has not stopped itself.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rempart_api::{bus::State as Word, job::Job};
use rempart_core::audit::What;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{audit::Audit, clock, jobs::Jobs, node::Node, systemd::manager};

/// Between two units that are started: they ask the vault each.
const SPACING: Duration = Duration::from_secs(1);
/// One question to systemd.
const EXCHANGE: Duration = Duration::from_secs(10);

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
    boot: String,
    /// They run, with secrets: unit and invocation.
    running: Vec<(String, String)>,
    /// They were stopped by a lock.
    stopped: Vec<String>,
}

impl Lock {
    /// With what an earlier agent of this boot has noted.
    pub fn remember(node: Arc<Node>, audit: Arc<Audit>, bus: zbus::Connection, jobs: Jobs, state: &Path) -> Arc<Self> {
        let memory = state.join("lock.json");
        let boot = clock::boot_id().map(hex::encode).unwrap_or_default();
        let known: Option<Units> = fs::read(&memory)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let units = known
            .filter(|known| known.boot == boot && !boot.is_empty())
            .unwrap_or(Units {
                boot,
                ..Units::default()
            });
        Arc::new(Self {
            node,
            audit,
            bus,
            jobs,
            memory,
            units: Mutex::new(units),
        })
    }

    /// `unit`, which says `OnLock=stop`, has got its secrets for this start.
    pub fn note(&self, unit: &str, invocation: &str) {
        let mut units = self.units();
        units.running.retain(|(known, _)| known != unit);
        units.stopped.retain(|known| known != unit);
        units.running.push((unit.to_owned(), invocation.to_owned()));
        self.write(&units);
    }

    /// Units that wait for the node to be unlocked, for people.
    pub fn stopped(&self) -> Vec<String> {
        self.units().stopped.clone()
    }

    /// Follows the node, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut view = self.node.view();
        loop {
            let (state, reason) = {
                let view = view.borrow_and_update();
                (view.state, view.reason.clone())
            };
            match state {
                Word::Locked => self.stop_all(&reason).await,
                Word::Unlocked => self.start_all().await,
                Word::Booting | Word::Attesting => {}
            }
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    async fn stop_all(&self, reason: &str) {
        let running = std::mem::take(&mut self.units().running);
        for (unit, invocation) in running {
            let runs = timeout(EXCHANGE, manager::runs(&self.bus, &unit, &invocation)).await;
            // What its operator has stopped stays stopped; what systemd does not tell is stopped.
            if matches!(runs, Ok(Ok(false))) {
                continue;
            }
            self.ask(&unit, Job::Stop, &format!("the node is locked: {reason}"));
            self.units().stopped.push(unit);
        }
        self.write(&self.units());
    }

    async fn start_all(&self) {
        let stopped = self.units().stopped.clone();
        for unit in stopped {
            if self.node.view().borrow().state != Word::Unlocked {
                return;
            }
            self.ask(&unit, Job::Start, "the node is unlocked");
            {
                let mut units = self.units();
                units.stopped.retain(|known| *known != unit);
                self.write(&units);
            }
            tokio::time::sleep(SPACING).await;
        }
    }

    fn ask(&self, unit: &str, job: Job, reason: &str) {
        let reason = reason.to_owned();
        let record = What::Job {
            unit: unit.to_owned(),
            job: job.word().to_owned(),
            reason,
        };
        // A stop that cannot be recorded is a stop all the same.
        if let Err(error) = self.audit.record(record) {
            tracing::error!("{error}");
        }
        match self.jobs.ask(unit, job) {
            Ok(()) => tracing::info!("{unit}: {} is asked for", job.word()),
            Err(why) => tracing::error!("{unit}: {} cannot be asked for: {why}", job.word()),
        }
    }

    fn write(&self, units: &Units) {
        let next = self.memory.with_extension("new");
        let written = serde_json::to_vec(units)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&next, bytes))
            .and_then(|()| fs::rename(&next, &self.memory));
        if let Err(error) = written {
            let path = self.memory.display();
            tracing::warn!(
                "{path} cannot be written: {error}; after a restart of the agent, a lock stops no unit that runs now"
            );
        }
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        // Each change is one of a list; a panic leaves it whole.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
