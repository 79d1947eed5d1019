//! What `Offline=` makes of the vault's answer: in memory for this boot ([`Stale`]), or sealed to the TPM ([`Copies`]).
//!
//! Must never pass an answer on that the keepers of older values have not seen: a no is a no for them too.

use std::{sync::Arc, time::Duration};

use rempart_backend::{Backend, BackendError, Fetched, GrantSource};
use rempart_core::unitfile::{Offline, OptIn};
use tokio::time::timeout;

use super::stale::Stale;
use crate::sealed::Copies;

/// Time for the vault alone.
const SILENCE: Duration = Duration::from_secs(25);

/// That values are not the vault's of now.
pub struct StandIn {
    /// How old they are.
    pub age: Duration,
    /// Why the vault gave none.
    pub why: String,
}

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

    /// The node is locked: what is in memory is wiped, and what was asked for before is not kept.
    pub fn forget(&self) {
        self.copies.advance();
        self.stale.forget();
    }

    /// The vault's answer to all that `unit` wants, or what may stand in for it.
    pub async fn fetch(
        &self,
        backend: &dyn Backend,
        grants: &dyn GrantSource,
        unit: &str,
        opt_in: &OptIn,
    ) -> Result<(Fetched, Option<StandIn>), BackendError> {
        let (wanted, role) = (opt_in.wanted(), opt_in.role());
        if wanted.is_empty() {
            return Ok((Fetched::default(), None));
        }
        // Before the vault is asked: a no that comes meanwhile counts.
        let since = self.copies.epoch();
        // Silence is an answer too: for a unit that may start without the vault, there is time left for that.
        let answer = timeout(SILENCE, backend.fetch(role, &wanted, grants)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(BackendError::Unreachable {
                server: "the vault".into(),
                why: format!("no answer within {} s", SILENCE.as_secs()),
            })
        });
        let why = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let offline = opt_in.offline;
        let judged = self
            .copies
            .judge(unit, role, &wanted, offline.sealed(), since, answer)
            .await;
        let (fetched, age) = match offline {
            Offline::Sealed(_) => judged,
            // Somebody has said no since it was asked for.
            _ if judged.is_ok() && self.copies.epoch() != since => judged,
            Offline::Strict | Offline::Stale(_) => {
                let answer = judged.map(|(fetched, _)| fetched);
                self.stale.judge(unit, role, &wanted, offline.stale(), answer)
            }
        }?;
        Ok((fetched, age.map(|age| StandIn { age, why })))
    }
}
