//! The agent's state machine.
//!
//! ```text
//!             Start                Granted
//!  Booting ──────────▶ Attesting ──────────▶ Unlocked(until) ◀─┐ Granted
//!                        │   ▲                  │    └─────────┘
//!                Refused │   │ operator         │ Refused: latched; lapse: not latched
//!                        ▼   │                  ▼
//!                      Locked(why) ◀────────────┘
//! ```
//!
//! A refusal by the Verifier is latched. Where the Verifier holds the node itself ([`Latch::Verifier`]: it saw drift), the
//! agent asks once an interval and unlocks when the Verifier's operator has cleared the node; any other refusal
//! ([`Latch::Node`]) is tried again on this node's operator's request only. An unreachable Verifier
//! is not a refusal: the agent keeps trying, and an unlocked state lives on until its own end, never
//! longer. Times are durations of CLOCK_BOOTTIME, which runs on in suspend, so that a paused machine
//! wakes up locked; one that wakes up before its lease ended has a minute ([`RESUME_GRACE`]) to attest again.
//! Must never stay unlocked past `until`, whatever happens or does not happen.

use std::time::Duration;

use rempart_api::bus::State as Word;

/// First wait after a failed attempt to reach the Verifier; doubles up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// What is left of a lease after suspend: nobody watched the machine meanwhile.
pub const RESUME_GRACE: Duration = Duration::from_secs(60);
/// A new policy is not asked about by a whole fleet in the same second.
pub const POLICY_SPREAD: Duration = Duration::from_secs(30);

/// Who has to end a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latch {
    /// Nobody: it lapsed, and ends when the Verifier answers again.
    None,
    /// An operator of this node.
    Node,
    /// The Verifier's operator, who clears the node there.
    Verifier,
}

/// Where the node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Started; nothing asked yet.
    Booting,
    /// Asking the Verifier for the first time, or again after a lapse or on an operator's request.
    Attesting {
        /// Attempts that did not reach the Verifier so far.
        failures: u32,
        /// Why the last one failed, if any did.
        last: Option<String>,
    },
    /// Secrets may be released.
    Unlocked {
        /// End of it.
        until: Duration,
        /// Attempts to renew it that did not reach the Verifier.
        failures: u32,
        /// Why the last one failed, if any did.
        last: Option<String>,
    },
    /// Nothing may be released.
    Locked {
        /// One line for the operator.
        why: String,
        /// Who ends it.
        latch: Latch,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The agent is ready.
    Start,
    /// The Verifier issued an Attestation Result.
    Granted,
    /// The Verifier judged the Evidence and said no, or refused the node: authoritative.
    Refused {
        /// One line.
        why: String,
        /// Whether the Verifier holds the node until its operator clears it there.
        held: bool,
    },
    /// The Verifier could not be asked.
    Unreachable(String),
    /// An operator wants an attestation now.
    OperatorAttest,
    /// An operator locks the node.
    OperatorLock,
    /// The machine was suspended and runs again.
    Resumed,
    /// The Verifier has another policy than the one of the last result.
    PolicyChanged,
    /// Time passed.
    Tick,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Attest now.
    Attest,
    /// Attest after this wait, unless something else happens before.
    AttestAfter(Duration),
    /// Attest after this wait, or when it was due anyway if that is sooner.
    AttestWithin(Duration),
    /// Tick at this time at the latest.
    TickAt(Duration),
    /// Revoke tokens and forget what was cached.
    Forget,
    /// Tell the bus, the journal and the audit log.
    Announce,
}

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two attestations.
    pub interval: Duration,
    /// How long one grant unlocks the node; at least `interval`.
    pub lease: Duration,
}

impl Pace {
    /// A pace whose lease outlives two attempts, so that one lost attempt locks nothing.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            lease: interval * 2 + Duration::from_secs(60),
        }
    }

    /// Until the next attestation: `jitter` in 0–999 takes off up to a fifth.
    fn next(self, jitter: u32) -> Duration {
        self.interval - self.interval * jitter / 5000
    }
}

impl State {
    /// Takes `input` at `now`; `jitter` in 0–999 spreads the next attestation over a fifth of the interval.
    #[must_use]
    pub fn step(self, now: Duration, pace: Pace, jitter: u32, input: Input) -> (Self, Vec<Action>) {
        let (state, lapsed) = self.lapse(now);
        let ticked = input == Input::Tick;
        let (state, mut actions) = state.take(now, pace, jitter.min(999), input);
        if lapsed && !matches!(state, Self::Unlocked { .. }) {
            actions.extend([Action::Forget, Action::Announce]);
            if ticked {
                actions.push(Action::Attest);
            }
        }
        (state, actions)
    }

    fn lapse(self, now: Duration) -> (Self, bool) {
        match self {
            Self::Unlocked { until, last, .. } if now >= until => {
                let cause = last.unwrap_or_else(|| "no attestation succeeded in time".to_owned());
                let why = format!("attestation lapsed: {cause}; secrets are withheld until the Verifier answers again");
                let latch = Latch::None;
                (Self::Locked { why, latch }, true)
            }
            other => (other, false),
        }
    }

    fn take(self, now: Duration, pace: Pace, jitter: u32, input: Input) -> (Self, Vec<Action>) {
        let fresh = || Self::Attesting {
            failures: 0,
            last: None,
        };
        match (self, input) {
            // The lease goes on: only the Verifier's no takes it away, not its silence.
            (state @ Self::Unlocked { .. }, Input::OperatorAttest) => (state, vec![Action::Attest]),
            (Self::Booting, Input::Start) | (_, Input::OperatorAttest) => {
                (fresh(), vec![Action::Announce, Action::Attest])
            }
            (Self::Booting, _) => (Self::Booting, Vec::new()),
            (state @ Self::Locked { latch: Latch::Node, .. }, _) => (state, Vec::new()),
            (_, Input::OperatorLock) => {
                let why = "locked by an operator; run `rempart attest` to unlock".to_owned();
                lock(why, Latch::Node, vec![Action::Forget, Action::Announce])
            }
            (before, Input::Refused { why, held }) => before.refused(pace, jitter, why, held),
            (before, Input::Granted) => before.granted(now, pace, jitter),
            (before, Input::Unreachable(why)) => before.unreachable(pace, jitter, why),
            (before, Input::Resumed) => before.resumed(now),
            (state @ Self::Unlocked { .. }, Input::PolicyChanged) => {
                (state, vec![Action::AttestWithin(POLICY_SPREAD * jitter / 1000)])
            }
            // Whoever is not unlocked asks anyway, or is held whatever the policy says.
            (state, Input::Start | Input::Tick | Input::PolicyChanged) => (state, Vec::new()),
        }
    }

    fn refused(self, pace: Pace, jitter: u32, why: String, held: bool) -> (Self, Vec<Action>) {
        let latch = if held { Latch::Verifier } else { Latch::Node };
        let mut actions = vec![Action::Forget];
        // A held node hears the same no once an interval; the audit log needs it once.
        if !matches!(&self, Self::Locked { why: before, latch: Latch::Verifier } if held && *before == why) {
            actions.push(Action::Announce);
        }
        if held {
            actions.push(Action::AttestAfter(pace.next(jitter)));
        }
        lock(why, latch, actions)
    }

    fn granted(self, now: Duration, pace: Pace, jitter: u32) -> (Self, Vec<Action>) {
        let until = now + pace.lease;
        let mut actions = vec![Action::TickAt(until), Action::AttestAfter(pace.next(jitter))];
        if !matches!(self, Self::Unlocked { .. }) {
            actions.push(Action::Announce);
        }
        let state = Self::Unlocked {
            until,
            failures: 0,
            last: None,
        };
        (state, actions)
    }

    fn unreachable(self, pace: Pace, jitter: u32, why: String) -> (Self, Vec<Action>) {
        match self {
            Self::Attesting { failures, .. } => {
                let state = Self::Attesting {
                    failures: failures.saturating_add(1),
                    last: Some(why),
                };
                let next = Action::AttestAfter(retry(failures, jitter));
                (state, vec![Action::Announce, next])
            }
            Self::Unlocked { until, failures, .. } => {
                let state = Self::Unlocked {
                    until,
                    failures: failures.saturating_add(1),
                    last: Some(why),
                };
                (state, vec![Action::AttestAfter(retry(failures, jitter))])
            }
            state @ Self::Locked {
                latch: Latch::Verifier, ..
            } => (state, vec![Action::AttestAfter(pace.next(jitter))]),
            state => (state, vec![Action::AttestAfter(retry(u32::MAX, jitter))]),
        }
    }

    fn resumed(self, now: Duration) -> (Self, Vec<Action>) {
        match self {
            Self::Unlocked { until, failures, last } => {
                let until = until.min(now + RESUME_GRACE);
                let state = Self::Unlocked { until, failures, last };
                (state, vec![Action::TickAt(until), Action::Attest])
            }
            state => (state, vec![Action::Attest]),
        }
    }

    /// May a secret be released at `now`? The reason for a no is one line.
    pub fn may_release(&self, now: Duration) -> Result<(), String> {
        match self {
            Self::Unlocked { until, .. } if now < *until => Ok(()),
            Self::Unlocked { .. } => Err("the node's attestation has lapsed; run `rempart attest`".to_owned()),
            Self::Booting | Self::Attesting { last: None, .. } => {
                Err("the node has not been attested yet; see `rempart status`".to_owned())
            }
            Self::Attesting { last: Some(why), .. } => Err(format!("the node is not attested: {why}")),
            Self::Locked { why, .. } => Err(format!("the node is locked: {why}")),
        }
    }

    /// The word on the bus.
    pub fn word(&self) -> Word {
        match self {
            Self::Booting => Word::Booting,
            Self::Attesting { .. } => Word::Attesting,
            Self::Unlocked { .. } => Word::Unlocked,
            Self::Locked { .. } => Word::Locked,
        }
    }

    /// One line for the bus; empty when there is nothing to say.
    pub fn reason(&self) -> &str {
        match self {
            Self::Booting => "",
            Self::Attesting { last, .. } | Self::Unlocked { last, .. } => last.as_deref().unwrap_or(""),
            Self::Locked { why, .. } => why,
        }
    }
}

fn lock(why: String, latch: Latch, actions: Vec<Action>) -> (State, Vec<Action>) {
    (State::Locked { why, latch }, actions)
}

/// Doubles with each failure; `jitter` takes off up to half, so that a fleet does not come back in one second when its
/// Verifier does.
fn retry(failures: u32, jitter: u32) -> Duration {
    let wait = RETRY_FIRST.saturating_mul(1 << failures.min(5)).min(RETRY_MAX);
    wait - wait * jitter / 2000
}

#[cfg(test)]
mod tests;
