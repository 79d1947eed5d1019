//! What running units hold for a time only: made longer at two thirds of its life, replaced before it ends (by a new start of the unit, or in its
//! files while it runs), given back when the unit has ended.
//!
//! Must never have a unit started again while that start could not get its secrets, nor told of new ones that are not in its files: what it
//! has is good until its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rempart_api::job::Job;
use rempart_backend::{BackendError, Lease};
use rempart_core::{
    audit::What,
    term::{Step, Term},
    unitfile::OnRotate,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::timeout};

use crate::{
    clock,
    jobs::Jobs,
    kept,
    node::Results,
    release::{Files, NotReplaced, Replacer},
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
    replacer: Replacer,
    bus: zbus::Connection,
    jobs: Jobs,
    /// What an agent that is started again has to know.
    memory: PathBuf,
    held: Mutex<BTreeMap<String, Held>>,
    /// What `memory` has, once it was written: most releases change nothing of it.
    written: Mutex<Option<BTreeMap<String, Start>>>,
    changed: Notify,
}

/// Of one unit.
struct Held {
    invocation: String,
    role: String,
    on_rotate: OnRotate,
    leases: Vec<Timed>,
    /// What was replaced while it runs: it may still use it, so that ends by itself, or with the unit.
    replaced: Vec<Lease>,
    /// Its files, where they can be replaced while it runs.
    files: Option<Arc<Files>>,
    /// When it is to get new secrets, and why.
    rotation: Option<(Instant, Why)>,
    /// When it got its secrets.
    since: Instant,
}

/// Why a unit is to get new secrets.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The operator wants it.
    Operator,
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
            Self::Operator => out.write_str("the operator asks for new secrets"),
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
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    invocation: String,
    role: String,
    /// It may be started again.
    restart: bool,
}

impl Held {
    fn new(invocation: String, role: String, on_rotate: OnRotate) -> Self {
        Self {
            invocation,
            role,
            on_rotate,
            leases: Vec::new(),
            replaced: Vec::new(),
            files: None,
            rotation: None,
            since: Instant::now(),
        }
    }

    /// Whether it holds anything that ends.
    fn ends(&self) -> bool {
        !(self.leases.is_empty() && self.replaced.is_empty())
    }

    /// Whether anything is to be done about it some time.
    fn is_pending(&self) -> bool {
        self.ends() || self.rotation.is_some()
    }
}

/// What `unit` holds, if it is of this start.
fn of_start<'a>(held: &'a mut BTreeMap<String, Held>, unit: &str, invocation: &str) -> Option<&'a mut Held> {
    held.get_mut(unit).filter(|held| held.invocation == invocation)
}

/// A rotation whose time has come.
struct Due {
    unit: String,
    invocation: String,
    role: String,
    on_rotate: OnRotate,
    files: Option<Arc<Files>>,
    why: Why,
}

impl Timed {
    fn fresh(lease: Lease) -> Self {
        let first = lease.life();
        Self::new(lease, first)
    }

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
    pub fn remember(replacer: Replacer, bus: zbus::Connection, jobs: Jobs, state: &Path) -> Arc<Self> {
        let memory = state.join("leases.json");
        let mut held = BTreeMap::new();
        let known: BTreeMap<String, Start> =
            kept::of_boot(&memory, &clock::boot_word(), "leases of before end unattended").unwrap_or_default();
        for (unit, start) in known.into_iter().filter(|(unit, _)| !unit.contains('/')) {
            let on_rotate = match start.restart {
                true => OnRotate::Restart,
                false => OnRotate::None,
            };
            let rotation = Some((Instant::now(), Why::AgentAgain));
            let known = Held::new(start.invocation, start.role, on_rotate);
            held.insert(unit, Held { rotation, ..known });
        }
        Arc::new(Self {
            replacer,
            bus,
            jobs,
            memory,
            held: Mutex::new(held),
            written: Mutex::default(),
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
            let now = held
                .entry(unit.to_owned())
                .or_insert_with(|| Held::new(invocation.to_owned(), role.to_owned(), on_rotate));
            now.leases.extend(leases.into_iter().map(Timed::fresh));
            self.write(&held);
            before
        };
        self.changed.notify_one();
        self.give_back(before);
    }

    /// Takes the files of that start in its keeping.
    pub fn keep(&self, unit: &str, invocation: &str, files: Files) {
        if let Some(held) = of_start(&mut self.held(), unit, invocation) {
            held.files = Some(Arc::new(files));
        }
    }

    /// The operator wants new secrets for `unit`: what will be done, in one line.
    pub fn rotate(&self, unit: &str) -> Result<String, String> {
        let mut held = self.held();
        let known = held.get_mut(unit).ok_or_else(|| {
            format!("{unit} has got no secrets from this agent since it was started; restart the unit for new ones")
        })?;
        let what = match (known.on_rotate, &known.files) {
            (OnRotate::None, _) => {
                return Err(format!(
                    "{unit} says OnRotate=none: nothing but a restart of yours gives it new secrets"
                ));
            }
            (OnRotate::Reload, Some(_)) => "its files are replaced, and it is reloaded",
            (OnRotate::Signal(_), Some(_)) => "its files are replaced, and it is told by a signal",
            (OnRotate::Restart, _) => "it is started again",
            (OnRotate::Reload | OnRotate::Signal(_), None) => {
                "it is started again, because this agent does not have its files"
            }
        };
        known.rotation = Some((Instant::now(), Why::Operator));
        drop(held);
        self.changed.notify_one();
        Ok(format!("{unit}: {what} as soon as the vault serves it"))
    }

    /// Every unit that got secrets and may get new ones.
    pub fn rotatable(&self) -> Vec<String> {
        let held = self.held();
        let may = held.iter().filter(|(_, held)| held.on_rotate != OnRotate::None);
        may.map(|(unit, _)| unit.clone()).collect()
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
    fn give_back(&self, held: Option<Held>) {
        let Some(held) = held.filter(Held::ends) else {
            return;
        };
        let leases = held.leases.into_iter().map(|timed| timed.lease);
        self.end(leases.chain(held.replaced).collect());
    }

    /// The same of leases.
    fn end(&self, leases: Vec<Lease>) {
        let backend = self.replacer.backend.clone();
        tokio::spawn(async move {
            if timeout(EXCHANGE, backend.end(leases)).await.is_err() {
                tracing::debug!("leases are not given back in time; what is left of them is tried again");
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
            if !timed.ended && !self.replacer.backend.is_alive(&timed.lease) {
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
        let answer = timeout(EXCHANGE, self.replacer.backend.renew(&lease)).await;
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

    /// Gives one unit new secrets, if one is due; the next comes later.
    async fn rotate_one(&self) {
        let Some(Due {
            unit,
            invocation,
            role,
            on_rotate,
            files,
            why,
        }) = self.rotation_due()
        else {
            return;
        };
        match (on_rotate, files) {
            (OnRotate::None, _) => {
                tracing::warn!("{unit}: {why}; OnRotate=none leaves it as it is, restart it for new secrets");
                self.postpone(&unit, LONG);
            }
            (OnRotate::Reload, Some(files)) => {
                self.replace(&unit, &invocation, &files, Job::Reload, why).await;
            }
            (OnRotate::Signal(signal), Some(files)) => {
                self.replace(&unit, &invocation, &files, Job::Signal(signal), why).await;
            }
            (OnRotate::Restart, _) | (_, None) => self.start_again(&unit, &role, why).await,
        }
    }

    fn rotation_due(&self) -> Option<Due> {
        let now = Instant::now();
        let held = self.held();
        let due = held.iter().filter_map(|(unit, held)| {
            let (at, why) = held.rotation.as_ref().filter(|(at, _)| *at <= now)?;
            Some((*at, unit, held, *why))
        });
        let (_, unit, held, why) = due.min_by_key(|(at, ..)| *at)?;
        Some(Due {
            unit: unit.clone(),
            invocation: held.invocation.clone(),
            role: held.role.clone(),
            on_rotate: held.on_rotate,
            files: held.files.clone(),
            why,
        })
    }

    /// Other values in the unit's files, then the word to it that they are there.
    async fn replace(&self, unit: &str, invocation: &str, files: &Files, job: Job, why: Why) {
        match self.replacer.replace(unit, invocation, files).await {
            Ok(leases) => {
                // Another start has new secrets by itself, and may not expect a signal yet.
                let here =
                    self.replaced(unit, invocation, leases) && self.replacer.still_runs(unit, invocation).await.is_ok();
                if here && !self.ask(unit, job, why) {
                    self.again(unit, invocation, why);
                }
                tokio::time::sleep(SPACING).await;
            }
            Err(NotReplaced::Gone) => self.postpone(unit, SWEEP),
            Err(NotReplaced::NotYet(not_yet)) => {
                tracing::warn!("{unit} keeps the secrets that it has for now: {not_yet}");
                self.postpone(unit, POSTPONED);
            }
            Err(NotReplaced::Never(never)) => {
                tracing::error!("{unit} will be started again for new secrets: {never}");
                if let Some(held) = of_start(&mut self.held(), unit, invocation) {
                    held.files = None;
                }
            }
        }
    }

    /// The unit holds `leases` now; what it held before it may still use.
    fn replaced(&self, unit: &str, invocation: &str, leases: Vec<Lease>) -> bool {
        let mut held = self.held();
        let Some(now) = of_start(&mut held, unit, invocation) else {
            // It has ended meanwhile, and nobody has seen them.
            self.end(leases);
            return false;
        };
        let before = std::mem::replace(&mut now.leases, leases.into_iter().map(Timed::fresh).collect());
        now.replaced.extend(before.into_iter().map(|timed| timed.lease));
        // Its login counts what rests on it.
        let over: Vec<Lease> = now
            .replaced
            .extract_if(.., |lease| lease.given().elapsed() >= lease.life())
            .collect();
        now.rotation = None;
        self.write(&held);
        if !over.is_empty() {
            self.end(over);
        }
        true
    }

    /// It has new secrets and could not be told: all of it once more.
    fn again(&self, unit: &str, invocation: &str, why: Why) {
        if let Some(held) = of_start(&mut self.held(), unit, invocation) {
            held.rotation = Some((Instant::now() + PATIENCE, why));
        }
    }

    async fn start_again(&self, unit: &str, role: &str, why: Why) {
        if let Err(why) = self.can_start(role).await {
            tracing::warn!("{unit} is not started again yet, because it would get no secrets: {why}");
            self.postpone(unit, POSTPONED);
            return;
        }
        self.ask(unit, Job::Restart, why);
        // Once it starts, this is the rotation of a start that is no more.
        self.postpone(unit, PATIENCE);
        tokio::time::sleep(SPACING).await;
    }

    /// False when it is not asked for.
    fn ask(&self, unit: &str, job: Job, why: Why) -> bool {
        let record = What::Job {
            unit: unit.to_owned(),
            job: job.word().to_owned(),
            reason: why.to_string(),
        };
        let asked = self.replacer.audit.record(record).map_err(|error| error.to_string());
        let asked = asked.and_then(|()| self.jobs.ask(unit, job));
        match &asked {
            Ok(()) => tracing::info!("{unit} is to get new secrets ({}): {why}", job.word()),
            Err(why) => tracing::error!("{unit} cannot be told of new secrets ({}): {why}", job.word()),
        }
        asked.is_ok()
    }

    async fn can_start(&self, role: &str) -> Result<(), String> {
        self.replacer.node.may_release()?;
        let results = Results(self.replacer.node.clone());
        let ready = self.replacer.backend.ready(role, &results);
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
        drop(timeout(EXCHANGE, self.replacer.backend.end(Vec::new())).await);
        let starts: Vec<(String, String)> = {
            let held = self.held();
            held.iter()
                .filter(|(_, held)| held.is_pending() || held.files.is_some())
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
        let held = self.held();
        let ends = held.iter().filter(|(_, held)| held.is_pending());
        ends.map(told).collect()
    }

    fn write(&self, held: &BTreeMap<String, Held>) {
        let start = |held: &Held| Start {
            invocation: held.invocation.clone(),
            role: held.role.clone(),
            restart: held.on_rotate != OnRotate::None,
        };
        let ends = held.iter().filter(|(_, held)| held.is_pending());
        let starts: BTreeMap<String, Start> = ends.map(|(unit, held)| (unit.clone(), start(held))).collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() == Some(&starts) {
            return;
        }
        let follows = "after a restart of the agent leases end unattended";
        let kept = kept::keep(&self.memory, &clock::boot_word(), &starts, follows);
        *written = kept.then_some(starts);
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
