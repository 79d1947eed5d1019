//! What running units hold for a time only: made longer at two thirds of its life, replaced by a new start of the unit before it ends,
//! given back when the unit has ended.
//!
//! Must never have a unit started again while that start could not get its secrets: what it has is good until its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rempart_api::job::Job;
use rempart_backend::{Backend, BackendError, Lease};
use rempart_core::{
    audit::What,
    term::{Step, Term},
    unitfile::OnRotate,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::timeout};

use crate::{
    audit::Audit,
    clock,
    jobs::Jobs,
    kept,
    node::{Node, Results},
    systemd::manager,
};

/// How often units are looked at that may have ended.
const SWEEP: Duration = Duration::from_secs(20);
/// Between two units that are started again: a vault that has ended everything at once does not stop everything at once.
const SPACING: Duration = Duration::from_secs(2);
/// Until a unit that was not started again is asked for once more.
const PATIENCE: Duration = Duration::from_secs(60);
/// From a start of a unit to the next that is asked for at the earliest.
const FLOOR: Duration = Duration::from_secs(10);
/// While the node or the vault could not serve a start.
const POSTPONED: Duration = Duration::from_secs(10);
/// Between two words on what nothing is done about.
const LONG: Duration = Duration::from_secs(3600);
/// One question to vault or systemd.
const EXCHANGE: Duration = Duration::from_secs(30);

/// All of them.
pub struct Leases {
    node: Arc<Node>,
    backend: Arc<dyn Backend>,
    audit: Arc<Audit>,
    bus: zbus::Connection,
    jobs: Jobs,
    /// What an agent that is started again has to know.
    memory: PathBuf,
    held: Mutex<BTreeMap<String, Held>>,
    changed: Notify,
}

/// Of one unit.
struct Held {
    invocation: String,
    role: String,
    on_rotate: OnRotate,
    leases: Vec<Timed>,
    /// When it is to be started again, and why.
    rotation: Option<(Instant, Why)>,
    /// When it got its secrets.
    since: Instant,
}

/// Why a unit is to be started again.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The agent has no token any more for what it holds.
    AgentAgain,
    /// Something of it ends then.
    Ends(Instant),
    /// Something of it has ended.
    Ended,
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AgentAgain => {
                out.write_str("the agent was started again, and the token that its secrets rest on is gone")
            }
            Self::Ends(end) => {
                let left = end.saturating_duration_since(Instant::now()).as_secs();
                write!(out, "a secret of it ends at the vault in {left} s")
            }
            Self::Ended => out.write_str("a secret of it has ended at the vault before its time"),
        }
    }
}

struct Timed {
    lease: Lease,
    first: Duration,
    at: Instant,
    step: Step,
    /// The vault has ended it before its time.
    ended: bool,
}

/// A start of a unit that holds leases, in the state folder. No secret, and nothing that opens one.
#[derive(Debug, Serialize, Deserialize)]
struct Start {
    invocation: String,
    role: String,
    restart: bool,
}

impl Timed {
    fn new(lease: Lease, first: Duration) -> Self {
        let term = Term {
            life: lease.life(),
            first,
            renewable: lease.is_renewable(),
        };
        let (after, step) = term.next(clock::jitter());
        Self {
            at: lease.given() + after,
            lease,
            first,
            step,
            ended: false,
        }
    }

    fn end(&self) -> Instant {
        self.lease.given() + self.lease.life()
    }
}

impl Leases {
    /// Those of an earlier agent in this boot, which only a new start of their units can replace: their token went with it.
    pub fn remember(
        node: Arc<Node>,
        backend: Arc<dyn Backend>,
        audit: Arc<Audit>,
        bus: zbus::Connection,
        jobs: Jobs,
        state: &Path,
    ) -> Arc<Self> {
        let memory = state.join("leases.json");
        let mut held = BTreeMap::new();
        let known: BTreeMap<String, Start> =
            kept::of_boot(&memory, &clock::boot_word(), "leases of before end unattended").unwrap_or_default();
        for (unit, start) in known.into_iter().filter(|(unit, _)| !unit.contains('/')) {
            held.insert(
                unit,
                Held {
                    invocation: start.invocation,
                    role: start.role,
                    on_rotate: if start.restart {
                        OnRotate::Restart
                    } else {
                        OnRotate::None
                    },
                    leases: Vec::new(),
                    rotation: Some((Instant::now(), Why::AgentAgain)),
                    since: Instant::now(),
                },
            );
        }
        Arc::new(Self {
            node,
            backend,
            audit,
            bus,
            jobs,
            memory,
            held: Mutex::new(held),
            changed: Notify::new(),
        })
    }

    /// `unit` has got `leases` for this start (each command of it may get some); those of its last one are given back.
    pub fn hold(self: &Arc<Self>, unit: &str, invocation: &str, role: &str, on_rotate: OnRotate, leases: Vec<Lease>) {
        let before = {
            let mut held = self.held();
            let before = match held.get(unit) {
                Some(known) if known.invocation != invocation => held.remove(unit),
                _ => None,
            };
            if !leases.is_empty() {
                let now = held.entry(unit.to_owned()).or_insert_with(|| Held {
                    invocation: invocation.to_owned(),
                    role: role.to_owned(),
                    on_rotate,
                    leases: Vec::new(),
                    rotation: None,
                    since: Instant::now(),
                });
                let timed = leases.into_iter().map(|lease| (lease.life(), lease));
                now.leases.extend(timed.map(|(first, lease)| Timed::new(lease, first)));
            }
            self.write(&held);
            before
        };
        self.changed.notify_one();
        self.give_back(before);
    }

    /// That start has failed, or ended.
    pub fn drop_start(self: &Arc<Self>, unit: &str, invocation: &str) {
        let gone = {
            let mut held = self.held();
            let gone = match held.get(unit) {
                Some(known) if known.invocation == invocation => held.remove(unit),
                _ => None,
            };
            self.write(&held);
            gone
        };
        self.give_back(gone);
    }

    /// Beside what is under way: nobody's start waits for it.
    fn give_back(self: &Arc<Self>, held: Option<Held>) {
        let Some(held) = held.filter(|held| !held.leases.is_empty()) else {
            return;
        };
        let this = self.clone();
        tokio::spawn(async move {
            let leases = held.leases.into_iter().map(|timed| timed.lease).collect();
            if timeout(EXCHANGE, this.backend.end(leases)).await.is_err() {
                tracing::debug!(
                    "leases of role {} are not given back in time; they end by themselves",
                    held.role
                );
            }
        });
    }

    /// Does what is due, for ever.
    pub async fn drive(self: Arc<Self>) {
        let mut swept = Instant::now();
        let mut asleep = asleep();
        loop {
            let next = self
                .next_due()
                .unwrap_or_else(|| Instant::now() + SWEEP)
                .min(swept + SWEEP);
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.changed.notified() => {}
            }
            // The vault's clock has run on while the machine was suspended; ours has not.
            let slept = self::asleep().saturating_sub(asleep);
            if slept > Duration::from_secs(1) {
                asleep += slept;
                self.age(slept);
            }
            if swept.elapsed() >= SWEEP {
                self.sweep().await;
                swept = Instant::now();
            }
            for (unit, lease, first) in self.due() {
                self.renew(&unit, lease, first).await;
            }
            self.rotate_one().await;
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let held = self.held();
        let renewals = held.values().flat_map(|held| held.leases.iter().map(|timed| timed.at));
        let rotations = held.values().filter_map(|held| Some(held.rotation.as_ref()?.0));
        renewals.chain(rotations).min()
    }

    /// A lock, or a login that the vault has ended, takes the leases with it; nobody tells.
    fn notice_ends(&self) {
        for timed in self.held().values_mut().flat_map(|held| &mut held.leases) {
            if !timed.ended && !self.backend.is_alive(&timed.lease) {
                (timed.at, timed.step, timed.ended) = (Instant::now(), Step::Replace, true);
            }
        }
    }

    fn age(&self, by: Duration) {
        for timed in self.held().values_mut().flat_map(|held| &mut held.leases) {
            timed.lease = timed.lease.clone().aged(by);
            timed.at = timed.at.checked_sub(by).unwrap_or(timed.at);
        }
    }

    /// Leases that want more time now; for those that get none, the unit is noted for a new start.
    fn due(&self) -> Vec<(String, Lease, Duration)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (unit, held) in self.held().iter_mut() {
            for timed in held.leases.iter_mut().filter(|timed| timed.at <= now) {
                match timed.step {
                    Step::Renew => due.push((unit.clone(), timed.lease.clone(), timed.first)),
                    Step::Replace => {
                        // Once is enough; the rotation asks again by itself.
                        timed.at = now + LONG;
                        let why = match timed.ended {
                            true => Why::Ended,
                            false => Why::Ends(timed.end()),
                        };
                        // A start that brings secrets which have ended already is not repeated at once.
                        held.rotation.get_or_insert((now.max(held.since + FLOOR), why));
                    }
                }
            }
        }
        due
    }

    async fn renew(&self, unit: &str, lease: Lease, first: Duration) {
        let answer = timeout(EXCHANGE, self.backend.renew(&lease)).await;
        let mut held = self.held();
        let Some(timed) = held
            .get_mut(unit)
            .and_then(|held| held.leases.iter_mut().find(|timed| timed.lease == lease))
        else {
            return;
        };
        match answer {
            Ok(Ok(longer)) => {
                tracing::debug!("a lease of {unit} is good for another {} s", longer.life().as_secs());
                *timed = Timed::new(longer, first);
            }
            Ok(Err(BackendError::LeaseEnded(_))) => {
                (timed.at, timed.step, timed.ended) = (Instant::now(), Step::Replace, true);
            }
            failed => {
                let why = failed.map_or_else(
                    |_| "no answer in time".to_owned(),
                    |error| error.err().map_or_else(String::new, |error| error.to_string()),
                );
                let term = Term {
                    life: lease.life(),
                    first,
                    renewable: true,
                };
                match term.again(lease.given().elapsed()) {
                    Some(wait) => {
                        tracing::warn!("a lease of {unit} is not made longer yet: {why}");
                        timed.at = Instant::now() + wait;
                    }
                    None => (timed.at, timed.step) = (Instant::now(), Step::Replace),
                }
            }
        }
    }

    /// Has one unit started again, if one is due; the next comes later.
    async fn rotate_one(&self) {
        let now = Instant::now();
        let due = {
            let held = self.held();
            let due = held.iter().filter_map(|(unit, held)| {
                let (at, why) = held.rotation.as_ref()?;
                (*at <= now).then(|| (*at, unit.clone(), held.role.clone(), held.on_rotate, *why))
            });
            due.min_by_key(|(at, ..)| *at)
        };
        let Some((_, unit, role, on_rotate, why)) = due else {
            return;
        };
        if on_rotate == OnRotate::None {
            tracing::warn!("{unit}: {why}; OnRotate=none leaves it as it is, restart it for new secrets");
            self.postpone(&unit, LONG);
            return;
        }
        if let Err(why) = self.can_start(&role).await {
            tracing::warn!("{unit} is not started again yet, because it would get no secrets: {why}");
            self.postpone(&unit, POSTPONED);
            return;
        }
        let record = What::Job {
            unit: unit.clone(),
            job: Job::Restart.word().to_owned(),
            reason: why.to_string(),
        };
        let asked = self.audit.record(record).map_err(|error| error.to_string());
        let asked = asked.and_then(|()| self.jobs.ask(&unit, Job::Restart));
        match asked {
            Ok(()) => tracing::info!("{unit} is to be started again: {why}"),
            Err(why) => tracing::error!("{unit} cannot be asked to start again: {why}"),
        }
        self.postpone(&unit, PATIENCE);
        tokio::time::sleep(SPACING).await;
    }

    async fn can_start(&self, role: &str) -> Result<(), String> {
        self.node.may_release()?;
        let results = Results(self.node.clone());
        let ready = self.backend.ready(role, &results);
        match Box::pin(timeout(EXCHANGE, ready)).await {
            Ok(ready) => ready.map_err(|error| error.to_string()),
            Err(_) => Err("the vault did not answer in time".to_owned()),
        }
    }

    fn postpone(&self, unit: &str, by: Duration) {
        if let Some((at, _)) = self.held().get_mut(unit).and_then(|held| held.rotation.as_mut()) {
            *at = Instant::now() + by;
        }
    }

    /// Gives back what units held that have ended.
    async fn sweep(self: &Arc<Self>) {
        self.notice_ends();
        // What was asked for in vain lies with the backend.
        drop(timeout(EXCHANGE, self.backend.end(Vec::new())).await);
        let starts: Vec<(String, String)> = {
            let held = self.held();
            held.iter()
                .map(|(unit, held)| (unit.clone(), held.invocation.clone()))
                .collect()
        };
        for (unit, invocation) in starts {
            let runs = timeout(EXCHANGE, manager::runs(&self.bus, &unit, &invocation)).await;
            // What systemd does not say is not taken for an end.
            if let Ok(Ok(false)) = runs {
                self.drop_start(&unit, &invocation);
            }
        }
    }

    /// What each unit holds, for people.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let now = Instant::now();
        let told = |(unit, held): (&String, &Held)| {
            let ends = held.leases.iter().map(Timed::end).min();
            serde_json::json!({
                "unit": unit,
                "leases": held.leases.len(),
                "ends_in_s": ends.map(|end| end.saturating_duration_since(now).as_secs()),
                "waits_for_start": held.rotation.as_ref().map(|(_, why)| why.to_string()),
            })
        };
        self.held().iter().map(told).collect()
    }

    fn write(&self, held: &BTreeMap<String, Held>) {
        let start = |held: &Held| Start {
            invocation: held.invocation.clone(),
            role: held.role.clone(),
            restart: held.on_rotate == OnRotate::Restart,
        };
        let starts: BTreeMap<&String, Start> = held.iter().map(|(unit, held)| (unit, start(held))).collect();
        let follows = "after a restart of the agent leases end unattended";
        kept::keep(&self.memory, &clock::boot_word(), &starts, follows);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        // Single map operations; a panic leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long this boot has slept so far.
fn asleep() -> Duration {
    clock::boottime().saturating_sub(clock::monotonic())
}
