//! The state machine of `rempart_core::machine`, driven: it gets the time and what happened, and what it answers is done.
//!
//! Must never hold a lock while waiting for a server, and never release on an answer that a later one took back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rempart_api::{bus::State as Word, guard};
use rempart_backend::{Backend, Grant, GrantSource, Later};
use rempart_core::{
    audit::What,
    config::Degraded,
    machine::{Action, Input, Latch, Pace, State},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    anchor::Anchors,
    attest::{Facts, Failure, Judge},
    audit::Audit,
    clock,
    guard::{Guard, GuardError},
    release::Units,
    systemd::notify,
};

/// The loop wakes at least this often: a machine that was asleep must notice that its attestation lapsed.
const BEAT: Duration = Duration::from_secs(5);
/// What a round may take: a token that ends this soon after the next one is due is renewed now.
const ROUND: Duration = Duration::from_secs(60);
/// Two ways tell of the same resume.
const RESUMED_ONCE: Duration = Duration::from_secs(8);
/// A result that ends sooner than this is not begun to be used.
const GRANT_MARGIN: Duration = Duration::from_secs(20);

/// The state as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The word on the bus.
    pub state: Word,
    /// One line, may be empty.
    pub reason: String,
    /// Microseconds since 1970; 0 when not unlocked.
    pub until_us: u64,
    /// Locked until an operator ends it, here or at the Verifier; a lapse ends by itself.
    pub latched: bool,
}

/// The node.
pub struct Node {
    pace: Pace,
    inner: Mutex<Inner>,
    view: watch::Sender<View>,
    wake: Notify,
    locks: watch::Sender<u64>,
    refusals: watch::Sender<u64>,
    round: tokio::sync::Mutex<()>,
    judge: Judge,
    backend: Arc<dyn Backend>,
    audit: Arc<Audit>,
    guard: Guard,
    degraded: Degraded,
    arming: Arming,
}

/// How the machine is armed, and what must hold before that.
pub struct Arming {
    /// What the guard is told.
    pub how: guard::Arming,
    /// What must not change.
    pub anchors: Anchors,
    /// The units, of which some may.
    pub units: Arc<Units>,
}

struct Inner {
    state: State,
    attest_at: Option<Instant>,
    grant: Option<(Arc<Grant>, Duration)>,
    resumed_at: Option<Duration>,
}

impl Node {
    /// A node that has not started yet.
    pub fn new(
        pace: Pace,
        judge: Judge,
        backend: Arc<dyn Backend>,
        audit: Arc<Audit>,
        guard: Guard,
        degraded: Degraded,
        arming: Arming,
    ) -> Arc<Self> {
        let view = View {
            state: Word::Booting,
            reason: String::new(),
            until_us: 0,
            latched: false,
        };
        Arc::new(Self {
            pace,
            inner: Mutex::new(Inner {
                state: State::Booting,
                attest_at: None,
                grant: None,
                resumed_at: None,
            }),
            view: watch::Sender::new(view),
            wake: Notify::new(),
            locks: watch::Sender::new(0),
            refusals: watch::Sender::new(0),
            round: tokio::sync::Mutex::default(),
            judge,
            backend,
            audit,
            guard,
            degraded,
            arming,
        })
    }

    /// Starts, and attests whenever it is time. Never returns.
    pub async fn drive(self: Arc<Self>) {
        self.take(Input::Start);
        loop {
            let now = Instant::now();
            let due = self.lock().attest_at;
            if due.is_some_and(|due| due <= now) {
                self.lock().attest_at = None;
                let node = self.clone();
                tokio::spawn(async move { node.attest().await });
                continue;
            }
            let next = due.unwrap_or(now + BEAT).min(now + BEAT);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.wake.notified() => {}
            }
            self.take(Input::Tick);
            notify::watchdog();
        }
    }

    /// Attests now, or waits for the attestation under way. Only one runs at a time.
    pub async fn attest(self: &Arc<Self>) {
        let _one = self.round.lock().await;
        self.one_round().await;
    }

    /// A result that can still be used for a while; attests again if there is none.
    async fn usable_or_attest(self: &Arc<Self>) -> Result<Arc<Grant>, String> {
        let _one = self.round.lock().await;
        // Others may have waited for the same attestation.
        if let Some(grant) = self.usable() {
            return Ok(grant);
        }
        self.one_round().await;
        self.may_release()?;
        self.usable().ok_or_else(|| match self.view.borrow().reason.as_str() {
            "" => "the Verifier's result ended before it could be used; start the unit again".to_owned(),
            why => why.to_owned(),
        })
    }

    async fn armed_round(&self) -> Result<Grant, Failure> {
        let held = self.arming.anchors.hold(&self.guard, &self.arming.units).await;
        held.map_err(Failure::Failed)?;
        let grant = self.judge.round().await?;
        self.arm().await?;
        Ok(grant)
    }

    async fn one_round(self: &Arc<Self>) {
        let attested = self.armed_round().await;
        let input = match attested {
            Ok(grant) => {
                let grant = Arc::new(grant);
                self.lock().grant = Some((grant.clone(), clock::boottime()));
                let (backend, horizon) = (self.backend.clone(), self.pace.interval + ROUND);
                tokio::spawn(async move { backend.granted(&grant, horizon).await });
                Input::Granted
            }
            Err(Failure::Refused { line, held, .. }) => Input::Refused { why: line, held },
            Err(Failure::Failed(line)) => {
                tracing::warn!("not attested: {line}");
                Input::Unreachable(line)
            }
        };
        self.take(input);
    }

    /// An operator wants an attestation now; gives the outcome in one line.
    pub async fn attest_for_operator(self: &Arc<Self>) -> String {
        self.take(Input::OperatorAttest);
        self.lock().attest_at = None;
        self.attest().await;
        let reason = self.view.borrow().reason.clone();
        match self.may_release() {
            Ok(()) if reason.is_empty() => Word::Unlocked.word().to_owned(),
            Ok(()) => format!("not attested again, the earlier result goes on until it lapses: {reason}"),
            Err(why) => why,
        }
    }

    /// The machine was suspended and runs again.
    pub fn resumed(self: &Arc<Self>) {
        let now = clock::boottime();
        let told = |inner: &Inner| inner.resumed_at.is_some_and(|before| now <= before + RESUMED_ONCE);
        let mut inner = self.lock();
        if told(&inner) {
            return;
        }
        inner.resumed_at = Some(now);
        drop(inner);
        tracing::info!("the machine was suspended; attesting again");
        self.take(Input::Resumed);
    }

    /// The Verifier has another policy than the one of the last result.
    pub fn policy_changed(self: &Arc<Self>) {
        tracing::info!("the Verifier has another policy; attesting again soon");
        self.take(Input::PolicyChanged);
    }

    /// Digest of the policy of the last result, while the node is unlocked by it.
    pub fn policy(&self) -> Option<String> {
        let inner = self.lock();
        let (grant, _) = inner.grant.as_ref()?;
        grant.words.policy_digest.clone()
    }

    /// Whether nobody outside judges this machine.
    pub fn is_local(&self) -> bool {
        self.judge.is_local()
    }

    /// What the last attestation showed.
    pub fn facts(&self) -> Facts {
        self.judge.facts()
    }

    /// The Evidence that was sent last, as CBOR.
    pub fn evidence(&self) -> Option<Arc<Vec<u8>>> {
        self.judge.sent()
    }

    /// The file that makes systemd of release `systemd` sign with this node's attestation key.
    pub async fn systemd_key(&self, systemd: u32) -> Result<String, String> {
        self.judge.systemd_key(systemd).await
    }

    /// May a secret be released now?
    pub fn may_release(&self) -> Result<(), String> {
        self.lock().state.may_release(clock::boottime())
    }

    /// The state as it changes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Counts how often everything was given up: a lock that is over before its view is looked at counts as well.
    pub fn locks(&self) -> watch::Receiver<u64> {
        self.locks.subscribe()
    }

    /// Counts those of them that were somebody's word, and no lapse.
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.refusals.subscribe()
    }

    /// Roles of the last result, if any.
    pub fn roles(&self) -> Vec<String> {
        self.lock()
            .grant
            .as_ref()
            .map(|(grant, _)| grant.roles.clone())
            .unwrap_or_default()
    }

    /// Gives up tokens and results; for the end of the process.
    pub async fn forget(&self) {
        self.lock().grant = None;
        self.backend.forget().await;
    }

    fn take(self: &Arc<Self>, input: Input) {
        let now = clock::boottime();
        let ticked = input == Input::Tick;
        let mut inner = self.lock();
        let before = inner.state.word();
        let state = std::mem::replace(&mut inner.state, State::Booting);
        let (state, actions) = state.step(now, self.pace, clock::jitter(), input);
        inner.state = state;
        if matches!(inner.state, State::Locked { latch: Latch::Node, .. }) {
            inner.attest_at = None;
        }
        for action in actions {
            match action {
                Action::Attest => inner.attest_at = Some(Instant::now()),
                Action::AttestAfter(wait) => inner.attest_at = Some(Instant::now() + wait),
                Action::AttestWithin(wait) => {
                    let soon = Instant::now() + wait;
                    inner.attest_at = Some(inner.attest_at.map_or(soon, |due| due.min(soon)));
                }
                // The loop ticks more often than any lease ends.
                Action::TickAt(_) => {}
                Action::Forget => {
                    inner.grant = None;
                    // Seen by everybody, however soon the next state comes.
                    self.locks.send_modify(|count| *count += 1);
                    if is_latched(&inner.state) {
                        self.refusals.send_modify(|count| *count += 1);
                    }
                    let backend = self.backend.clone();
                    tokio::spawn(async move { backend.forget().await });
                }
                Action::Announce => self.announce(before, &inner.state),
            }
        }
        let view = view(&inner.state, now);
        drop(inner);
        // `until` is recomputed from two clocks and trembles by microseconds; only a renewal moves it by more.
        self.view.send_if_modified(|old| {
            let moved = old.until_us.abs_diff(view.until_us) > 1_000_000;
            let changed = moved || (old.state, &old.reason, old.latched) != (view.state, &view.reason, view.latched);
            if changed {
                *old = view;
            }
            changed
        });
        // The loop itself ticks; waking it by that would have it spin.
        if !ticked {
            self.wake.notify_one();
        }
    }

    fn usable(&self) -> Option<Arc<Grant>> {
        let inner = self.lock();
        let (grant, at) = inner.grant.as_ref()?;
        (clock::boottime() + GRANT_MARGIN < *at + grant.life).then(|| grant.clone())
    }

    fn announce(&self, before: Word, state: &State) {
        let (word, reason) = (state.word(), state.reason().to_owned());
        match word {
            Word::Locked => tracing::error!("locked: {reason}"),
            // Each failed attempt announces again; it has been logged where it failed.
            Word::Attesting if before == Word::Attesting => return,
            _ => tracing::info!("{}{}{reason}", word.word(), if reason.is_empty() { "" } else { ": " }),
        }
        // A failure is logged there; the state is what it is.
        let _ = self.audit.record(What::State {
            state: word.word().to_owned(),
            reason,
        });
    }

    /// Has the guard deny the machine-wide vectors: before anybody may take a secret, and again at each round.
    async fn arm(&self) -> Result<(), Failure> {
        let Err(error) = self.guard.arm(&self.arming.how).await else {
            return Ok(());
        };
        let line = format!("machine-wide protection is not armed: {error}");
        let tolerable = match error {
            // A kernel that enforces nothing; each release asks the guard for itself, and guard.degraded decides there.
            GuardError::Refused(_) => !self.guard.status_or_nothing().await.enforcing,
            _ => self.degraded == Degraded::Allow,
        };
        if !tolerable {
            return Err(Failure::Failed(line));
        }
        tracing::warn!("{line}");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No statement under this lock leaves the state half changed but the replace in `take`, whose value is Booting.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view(state: &State, now: Duration) -> View {
    let until_us = match state {
        State::Unlocked { until, .. } => {
            clock::unix_us() + u64::try_from(until.saturating_sub(now).as_micros()).unwrap_or(0)
        }
        _ => 0,
    };
    View {
        state: state.word(),
        reason: state.reason().to_owned(),
        until_us,
        latched: is_latched(state),
    }
}

fn is_latched(state: &State) -> bool {
    matches!(
        state,
        State::Locked {
            latch: Latch::Node | Latch::Verifier,
            ..
        }
    )
}

/// A source of results: the node itself.
pub struct Results(pub Arc<Node>);

impl GrantSource for Results {
    fn fresh(&self) -> Later<'_, Result<Arc<Grant>, String>> {
        Box::pin(self.0.usable_or_attest())
    }
}
