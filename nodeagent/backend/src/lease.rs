//! What a vault gives for a time only: credentials of a database, certificates.
//!
//! Must never outlive the token that it was given under: it ends when that is revoked.

use std::time::{Duration, Instant};

/// Longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// By which the server knows it; none for what merely expires.
    pub(crate) id: Option<String>,
    /// The role it was asked for under.
    pub(crate) role: String,
    /// The login it was given under.
    pub(crate) session: u64,
    given: Instant,
    life: Duration,
    renewable: bool,
}

impl Lease {
    /// `id` was asked for at `given`, under the login `session` of `role`, and is good for `life`.
    pub(crate) fn new(id: Option<String>, role: &str, session: u64, given: Instant, life: Duration) -> Self {
        Self {
            id,
            role: role.to_owned(),
            session,
            given,
            life: life.min(MAX_LIFE),
            renewable: false,
        }
    }

    /// The same, which the server would make longer.
    pub(crate) fn renewable(self, renewable: bool) -> Self {
        Self { renewable, ..self }
    }

    /// The same, given `by` longer ago than this process's clock has it: the machine was suspended.
    pub fn aged(self, by: Duration) -> Self {
        Self {
            given: self.given.checked_sub(by).unwrap_or(self.given),
            ..self
        }
    }

    /// When it was asked for.
    pub fn given(&self) -> Instant {
        self.given
    }

    /// How long it is good for, from then.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// Whether asking for more time makes sense.
    pub fn is_renewable(&self) -> bool {
        self.renewable && self.id.is_some()
    }
}
