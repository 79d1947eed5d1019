//! What `Offline=` makes of the vault's answer: in memory for this boot ([`Stale`]), or sealed to the TPM ([`Copies`]).
//!
//! Must never pass an answer on that the keepers of older values have not seen: a no is a no for them too.

use std::{sync::Arc, time::Duration};

use rempart_backend::{BackendError, Fetched};
use rempart_core::{reference::Reference, unitfile::Offline};

use super::stale::Stale;
use crate::sealed::Copies;

/// Both keepers.
#[derive(Clone)]
pub struct Outage {
    /// In the agent's secret memory.
    pub stale: Arc<Stale>,
    /// Sealed to the TPM.
    pub copies: Arc<Copies>,
}

impl Outage {
    /// Which units could start without the vault, and which have, for people.
    pub fn told(&self) -> Vec<serde_json::Value> {
        [self.stale.told(), self.copies.told()].concat()
    }

    /// To be asked for before the vault is.
    pub fn epoch(&self) -> u64 {
        self.copies.epoch()
    }

    /// The node is locked: what is in memory is wiped, and what was asked for before is not kept.
    pub fn forget(&self) {
        self.copies.advance();
        self.stale.forget();
    }

    /// The vault's answer for `unit`, which was asked `since` that epoch, or what may stand in for it, and how old that is.
    pub async fn judge(
        &self,
        unit: &str,
        role: &str,
        wanted: &[Reference],
        offline: Offline,
        since: u64,
        answer: Result<Fetched, BackendError>,
    ) -> Result<(Fetched, Option<Duration>), BackendError> {
        let judged = self
            .copies
            .judge(unit, role, wanted, offline.sealed(), since, answer)
            .await;
        match offline {
            Offline::Sealed(_) => judged,
            // Somebody has said no since it was asked for.
            _ if judged.is_ok() && self.epoch() != since => judged,
            Offline::Strict | Offline::Stale(_) => {
                let answer = judged.map(|(fetched, _)| fetched);
                self.stale.judge(unit, role, wanted, offline.stale(), answer)
            }
        }
    }
}
