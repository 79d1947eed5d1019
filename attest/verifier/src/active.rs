//! The active policy: read from the registry for each appraisal, so that an installed one counts at once, and parsed only when its
//! bytes changed.

use std::sync::{Arc, Mutex, PoisonError};

use rempart_attest::Fixed;
use rempart_attest::bytes::sha256;
use rempart_attest::policy::{Policy, PolicyError};

use crate::registry::{Registry, RegistryError};

/// A parsed policy and the digest of its file.
pub struct Active {
    /// SHA-256 of the file.
    pub digest: Fixed<32>,
    /// What it says.
    pub policy: Policy,
}

/// Why there is no policy to judge by.
#[derive(Debug, thiserror::Error)]
pub enum ActiveError {
    /// None was installed.
    #[error("the Verifier has no policy: rempart-verifier policy install FILE")]
    None,
    /// The stored one does not parse (an older release's format).
    #[error("the installed policy does not count any more: {0}")]
    Policy(#[from] PolicyError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Keeps the last one parsed.
#[derive(Default)]
pub struct Cache(Mutex<Option<Arc<Active>>>);

impl Cache {
    /// The policy in force now.
    pub fn current(&self, registry: &dyn Registry) -> Result<Arc<Active>, ActiveError> {
        let stored = registry.policy()?.ok_or(ActiveError::None)?;
        let digest = sha256(&stored.text);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = kept.as_ref().filter(|active| active.digest == digest) {
            return Ok(active.clone());
        }
        let active = Arc::new(Active {
            digest,
            policy: Policy::parse(&stored.text)?,
        });
        *kept = Some(active.clone());
        Ok(active)
    }
}
