//! Who judges this machine: the owner's Verifier or, on a machine without any server, the TPM alone.
//!
//! The TPM compares the registers with those of the first `rempart seal set`, and that is all: no log, no policy, no revocation, and nobody
//! outside who would notice. Must never stand for more than that in status or journal.

use std::sync::{Arc, Mutex, PoisonError};

use rempart_backend::Grant;
use rempart_device::{Tpm, TpmOptions};

use super::{Attestor, Facts, Failure, facts::TpmFacts};
use crate::{
    sealed::{Booted, Values},
    tpm::TpmLine,
};

/// A judge.
pub enum Judge {
    /// The Verifier.
    Verifier(Box<Attestor>),
    /// The TPM, by what it keeps.
    Tpm(Box<Local>),
}

/// The TPM as judge.
pub struct Local {
    values: Arc<Values>,
    tpm: TpmLine,
    options: TpmOptions,
    /// Of the TPM alone: nobody has said anything else.
    facts: Mutex<Facts>,
}

impl Local {
    /// By what `values` were sealed to.
    pub fn new(values: Arc<Values>, tpm: TpmLine, options: TpmOptions) -> Self {
        Self {
            values,
            tpm,
            options,
            facts: Mutex::default(),
        }
    }

    /// Once, when the TPM first answers.
    async fn describe(&self) {
        if self.facts().tpm.is_some() {
            return;
        }
        if let Ok(found) = self.tpm.run(Tpm::describe).await {
            let words = TpmFacts::new(found, &self.options, false);
            self.facts.lock().unwrap_or_else(PoisonError::into_inner).tpm = Some(words);
        }
    }

    fn facts(&self) -> Facts {
        // Each field is replaced whole.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Judge {
    /// One round.
    pub async fn round(&self) -> Result<Grant, Failure> {
        let local = match self {
            Self::Verifier(attestor) => return attestor.round().await,
            Self::Tpm(local) => local,
        };
        local.describe().await;
        match local.values.booted().await {
            Booted::AsRecorded(roles) => Grant::local(roles).map_err(|error| Failure::Failed(error.to_string())),
            Booted::Unrecorded => Err(Failure::Failed(
                "nothing is sealed to this machine yet, so there is no boot to compare with; begin with: rempart seal set".to_owned(),
            )),
            Booted::Otherwise(line) => Err(Failure::Refused {
                line,
                held: false,
                findings: Vec::new(),
            }),
            Booted::Unknown(line) => Err(Failure::Failed(line)),
        }
    }

    /// Whether nobody outside judges this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Tpm(_))
    }

    /// What the last round showed.
    pub fn facts(&self) -> Facts {
        match self {
            Self::Verifier(attestor) => attestor.facts(),
            Self::Tpm(local) => local.facts(),
        }
    }

    /// The Evidence that was sent last, as CBOR.
    pub fn sent(&self) -> Option<Arc<Vec<u8>>> {
        match self {
            Self::Verifier(attestor) => attestor.sent(),
            Self::Tpm(_) => None,
        }
    }

    /// The file that makes systemd of release `systemd` sign with this node's key.
    pub async fn systemd_key(&self, systemd: u32) -> Result<String, String> {
        match self {
            Self::Verifier(attestor) => attestor.systemd_key(systemd).await,
            Self::Tpm(_) => Err("this machine has no [verifier], which would judge systemd's report".to_owned()),
        }
    }
}
