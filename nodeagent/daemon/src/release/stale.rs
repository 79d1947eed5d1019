//! Values of a unit's last release, for a vault that is away: `Offline=stale:TIME` lets the unit start with them so long.
//!
//! Must never serve after the vault has said no, nor after a lock; and never keep what ends by itself.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rempart_backend::{BackendError, Fetched};
use rempart_core::reference::Reference;
use rempart_secret::SecretBytes;

use crate::clock;

/// In the agent's secret memory.
#[derive(Default)]
pub struct Stale(Mutex<HashMap<String, Kept>>);

/// Of one unit.
struct Kept {
    /// Time since boot.
    at: Duration,
    role: String,
    wanted: Vec<Reference>,
    values: Vec<SecretBytes>,
    /// The unit's last start was with them.
    used: bool,
}

/// What an error of the vault means for older values.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Meaning {
    /// It is away, and has said nothing.
    Away,
    /// It has answered, or is not the one that it was.
    No,
    /// Nobody has said anything about the secret; the node has to be attested all the same.
    Unknown,
}

/// What `error` means.
pub fn meaning(error: &BackendError) -> Meaning {
    match error {
        BackendError::Unreachable { .. } | BackendError::Sealed { .. } => Meaning::Away,
        BackendError::Denied { .. }
        | BackendError::RoleNotGranted { .. }
        | BackendError::Absent { .. }
        | BackendError::Misconfigured { .. }
        | BackendError::NoCertificate
        | BackendError::Unfit { .. }
        | BackendError::Opened { .. }
        | BackendError::LeaseEnded(_) => Meaning::No,
        // Of a late answer nobody knows who has read it; older values would cover that up.
        BackendError::NoGrant(_) | BackendError::Late { .. } | BackendError::NoIds { .. } => Meaning::Unknown,
    }
}

impl Stale {
    /// The vault's answer, or what may stand in for it: values of at most `most` ago, and how old they are.
    pub fn judge(
        &self,
        unit: &str,
        role: &str,
        wanted: &[Reference],
        most: Option<Duration>,
        answer: Result<Fetched, BackendError>,
    ) -> Result<(Fetched, Option<Duration>), BackendError> {
        let now = clock::boottime();
        let mut kept = self.kept();
        match answer {
            Ok(fetched) => {
                // What has a lease is the service's own, and ends.
                if most.is_some() && fetched.leases.is_empty() {
                    let known = Kept {
                        at: now,
                        role: role.to_owned(),
                        wanted: wanted.to_vec(),
                        values: copies(&fetched.values),
                        used: false,
                    };
                    kept.insert(unit.to_owned(), known);
                } else {
                    kept.remove(unit);
                }
                Ok((fetched, None))
            }
            Err(error) => {
                match meaning(&error) {
                    Meaning::Away => {}
                    Meaning::No => {
                        kept.remove(unit);
                    }
                    Meaning::Unknown => return Err(error),
                }
                let (Some(most), Some(known)) = (most, kept.get_mut(unit)) else {
                    return Err(error);
                };
                let age = now.saturating_sub(known.at);
                if age > most || (known.role.as_str(), known.wanted.as_slice()) != (role, wanted) {
                    kept.remove(unit);
                    return Err(error);
                }
                known.used = true;
                let fetched = Fetched {
                    values: copies(&known.values),
                    leases: Vec::new(),
                };
                Ok((fetched, Some(age)))
            }
        }
    }

    /// Which units could start without the vault, and which have, for people.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let now = clock::boottime();
        let told = |(unit, kept): (&String, &Kept)| {
            let age = now.saturating_sub(kept.at).as_secs();
            serde_json::json!({"unit": unit, "age_s": age, "used": kept.used})
        };
        self.kept().iter().map(told).collect()
    }

    /// The node is locked.
    pub fn forget(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        // Single map operations; a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same once more, for another consumer.
pub fn copies(values: &[SecretBytes]) -> Vec<SecretBytes> {
    let copy = |value: &SecretBytes| SecretBytes::build(value.len(), |out| out.copy_from_slice(value.expose()));
    values.iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    fn wanted(text: &str) -> Vec<Reference> {
        vec![text.parse().expect("a reference")]
    }

    fn good() -> Result<Fetched, BackendError> {
        Ok(Fetched {
            values: vec![SecretBytes::new(b"value".to_vec())],
            leases: Vec::new(),
        })
    }

    fn away() -> Result<Fetched, BackendError> {
        Err(BackendError::Sealed { server: "vault".into() })
    }

    fn denied() -> Result<Fetched, BackendError> {
        Err(BackendError::Denied {
            server: "vault".into(),
            what: "kv/a#b".into(),
            role: "web".into(),
            why: "no".into(),
        })
    }

    #[test]
    fn the_last_values_stand_in_while_the_vault_is_away_and_the_unit_says_so() {
        let stale = Stale::default();
        let kv = wanted("kv/a#b");
        assert!(
            stale.judge("a.service", "web", &kv, HOUR, away()).is_err(),
            "nothing yet"
        );
        assert!(matches!(
            stale.judge("a.service", "web", &kv, HOUR, good()),
            Ok((_, None))
        ));
        let (fetched, age) = stale.judge("a.service", "web", &kv, HOUR, away()).expect("stale");
        assert_eq!(
            (fetched.values[0].expose().as_slice(), age.is_some()),
            (&b"value"[..], true)
        );
        assert!(
            stale.judge("b.service", "web", &kv, HOUR, away()).is_err(),
            "another unit"
        );
        assert!(stale.judge("a.service", "web", &kv, None, away()).is_err(), "strict");
    }

    #[test]
    fn never_after_a_no_a_lock_another_question_or_too_long() {
        let kv = wanted("kv/a#b");
        let fresh = || {
            let stale = Stale::default();
            drop(stale.judge("a.service", "web", &kv, HOUR, good()).expect("fetched"));
            stale
        };
        let stale = fresh();
        assert!(stale.judge("a.service", "web", &kv, HOUR, denied()).is_err());
        assert!(
            stale.judge("a.service", "web", &kv, HOUR, away()).is_err(),
            "it has said no before"
        );
        let stale = fresh();
        stale.forget();
        assert!(stale.judge("a.service", "web", &kv, HOUR, away()).is_err());
        assert!(fresh().judge("a.service", "other", &kv, HOUR, away()).is_err());
        assert!(
            fresh()
                .judge("a.service", "web", &wanted("kv/c#d"), HOUR, away())
                .is_err()
        );
        let stale = fresh();
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            stale
                .judge("a.service", "web", &kv, Some(Duration::from_millis(1)), away())
                .is_err()
        );
    }
}
