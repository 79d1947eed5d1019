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
//! A refusal by the Verifier is latched: only an operator's request tries again. An unreachable Verifier
//! is not a refusal: the agent keeps trying, and an unlocked state lives on until its own end, never
//! longer. Times are durations of CLOCK_BOOTTIME, which runs on in suspend, so that a paused machine
//! wakes up locked. Must never stay unlocked past `until`, whatever happens or does not happen.

use std::time::Duration;

use rempart_api::bus::State as Word;

/// First wait after a failed attempt to reach the Verifier; doubles up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

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
        /// Only an operator ends it.
        latched: bool,
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
    Refused(String),
    /// The Verifier could not be asked.
    Unreachable(String),
    /// An operator wants an attestation now.
    OperatorAttest,
    /// An operator locks the node.
    OperatorLock,
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
    /// Tick at this time at the latest.
    TickAt(Duration),
    /// Have the guard arm the machine-wide denials.
    Arm,
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
}

impl State {
    /// Takes `input` at `now`; `jitter` in 0–999 spreads the next attestation over a fifth of the interval.
    #[must_use]
    pub fn step(self, now: Duration, pace: Pace, jitter: u32, input: Input) -> (Self, Vec<Action>) {
        match (self.lapse(now), input) {
            ((state, true), Input::Tick) => (state, vec![Action::Forget, Action::Announce, Action::Attest]),
            ((state, _), input) => state.take(now, pace, jitter, input),
        }
    }

    fn lapse(self, now: Duration) -> (Self, bool) {
        match self {
            Self::Unlocked { until, last, .. } if now >= until => {
                let cause = last.unwrap_or_else(|| "no attestation succeeded in time".to_owned());
                let why = format!("attestation lapsed: {cause}; secrets are withheld until the Verifier answers again");
                (Self::Locked { why, latched: false }, true)
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
            (Self::Locked { why, latched: true }, _) => (Self::Locked { why, latched: true }, Vec::new()),
            (_, Input::OperatorLock) => {
                let why = "locked by an operator; run `rempart attest` to unlock".to_owned();
                (
                    Self::Locked { why, latched: true },
                    vec![Action::Forget, Action::Announce],
                )
            }
            (_, Input::Refused(why)) => (
                Self::Locked { why, latched: true },
                vec![Action::Forget, Action::Announce],
            ),
            (before, Input::Granted) => {
                let until = now + pace.lease;
                let next = pace.interval - pace.interval * jitter.min(999) / 5000;
                let mut actions = vec![Action::TickAt(until), Action::AttestAfter(next)];
                if !matches!(before, Self::Unlocked { .. }) {
                    actions.extend([Action::Arm, Action::Announce]);
                }
                (
                    Self::Unlocked {
                        until,
                        failures: 0,
                        last: None,
                    },
                    actions,
                )
            }
            (Self::Attesting { failures, .. }, Input::Unreachable(why)) => {
                let next = Action::AttestAfter(retry(failures));
                (
                    Self::Attesting {
                        failures: failures.saturating_add(1),
                        last: Some(why),
                    },
                    vec![Action::Announce, next],
                )
            }
            (Self::Unlocked { until, failures, .. }, Input::Unreachable(why)) => {
                let next = Action::AttestAfter(retry(failures));
                (
                    Self::Unlocked {
                        until,
                        failures: failures.saturating_add(1),
                        last: Some(why),
                    },
                    vec![next],
                )
            }
            (Self::Locked { why, .. }, Input::Unreachable(_)) => (
                Self::Locked { why, latched: false },
                vec![Action::AttestAfter(RETRY_MAX)],
            ),
            (state, Input::Start | Input::Tick) => (state, Vec::new()),
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

fn retry(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.min(5)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_secs(600),
        lease: Duration::from_secs(1260),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn run(inputs: &[(u64, Input)]) -> (State, Vec<Action>) {
        let mut state = State::Booting;
        let mut last = Vec::new();
        for (second, input) in inputs {
            (state, last) = state.step(at(*second), PACE, 0, input.clone());
        }
        (state, last)
    }

    #[test]
    fn nothing_is_released_before_a_grant() {
        assert!(State::Booting.may_release(at(0)).is_err());
        let (state, actions) = run(&[(0, Input::Start)]);
        assert!(state.may_release(at(0)).is_err());
        assert!(actions.contains(&Action::Attest));
        let (state, _) = run(&[(0, Input::Start), (1, Input::Unreachable("connection refused".into()))]);
        assert!(
            state
                .may_release(at(1))
                .expect_err("closed")
                .contains("connection refused")
        );
    }

    #[test]
    fn a_grant_before_the_start_is_ignored() {
        assert_eq!(run(&[(0, Input::Granted)]).0, State::Booting);
    }

    #[test]
    fn a_grant_unlocks_until_its_end_and_not_longer() {
        let (state, actions) = run(&[(0, Input::Start), (5, Input::Granted)]);
        assert!(state.may_release(at(6)).is_ok());
        assert!(state.may_release(at(5 + 1260)).is_err());
        assert!(actions.contains(&Action::Arm));
    }

    #[test]
    fn a_refusal_is_latched_until_an_operator_asks() {
        let refused = [
            (0, Input::Start),
            (5, Input::Granted),
            (6, Input::Refused("PCR 9 differs".into())),
        ];
        let (state, actions) = run(&refused);
        assert!(actions.contains(&Action::Forget));
        assert!(state.may_release(at(6)).expect_err("closed").contains("PCR 9"));
        let (state, actions) = state.step(at(7), PACE, 0, Input::Granted);
        assert!(matches!(state, State::Locked { latched: true, .. }));
        assert!(actions.is_empty());
        let (state, actions) = state.step(at(8), PACE, 0, Input::OperatorAttest);
        assert!(state.may_release(at(8)).is_err());
        assert!(actions.contains(&Action::Attest));
    }

    #[test]
    fn an_unreachable_verifier_locks_only_when_the_lease_ends() {
        let (state, _) = run(&[
            (0, Input::Start),
            (5, Input::Granted),
            (600, Input::Unreachable("timed out".into())),
        ]);
        assert!(state.may_release(at(601)).is_ok());
        let (state, actions) = state.step(at(1265), PACE, 0, Input::Tick);
        assert!(matches!(&state, State::Locked { latched: false, why } if why.contains("timed out")));
        assert!(actions.contains(&Action::Forget));
        let (state, _) = state.step(at(1300), PACE, 0, Input::Granted);
        assert!(state.may_release(at(1301)).is_ok());
    }

    #[test]
    fn an_operators_question_to_an_absent_verifier_takes_nothing_away() {
        let (state, actions) = run(&[
            (0, Input::Start),
            (5, Input::Granted),
            (6, Input::OperatorAttest),
            (7, Input::Unreachable("timed out".into())),
        ]);
        assert!(state.may_release(at(8)).is_ok() && state.reason().contains("timed out"));
        assert!(matches!(actions.as_slice(), [Action::AttestAfter(_)]));
        let (state, _) = state.step(at(9), PACE, 0, Input::Refused("PCR 9 differs".into()));
        assert!(state.may_release(at(9)).is_err());
    }

    #[test]
    fn retries_grow_and_are_bounded() {
        assert_eq!(retry(0), at(1));
        assert_eq!(retry(3), at(8));
        assert_eq!(retry(u32::MAX), RETRY_MAX);
    }
}
