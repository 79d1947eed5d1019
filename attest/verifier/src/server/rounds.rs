//! What the last authentic round of a node left behind, in memory: its AK, whose certificate then need not be verified again, and its
//! TPM's counters. A boot that the TPM did not see (kexec into a kernel that nobody measured leaves the registers as they were), a
//! machine that was set back to a snapshot, and two machines that share one TPM show in the counters only. A replica that was
//! restarted or never saw the node knows nothing and says nothing.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rempart_attest::ak::{self, VerifiedAk};
use rempart_attest::tpm::counters::{Counters, continues};
use rempart_attest::verify::Verified;
use rempart_attest::{Finding, Fixed};

/// Nodes remembered, count: some 600 bytes each.
const NODES: usize = 65_536;

/// By digest of the AK certificate.
#[derive(Default)]
pub struct Rounds(Mutex<HashMap<Fixed<32>, (VerifiedAk, Counters)>>);

impl Rounds {
    /// The AK of this certificate, when it was verified before.
    pub fn ak(&self, pem: &str) -> Option<VerifiedAk> {
        let rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.get(&ak::pem_digest(pem)).map(|(ak, _)| ak.clone())
    }

    /// Compares with the last round and takes this one's place in it. A break is told once: what comes after it is compared with it.
    pub fn follow(&self, verified: &Verified) -> Result<(), Finding> {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.len() >= NODES {
            rounds.clear();
        }
        let this = (verified.ak.clone(), verified.counters);
        let Some((_, last)) = rounds.insert(*verified.ak.pem_digest(), this) else {
            return Ok(());
        };
        continues(&last, &verified.counters).map(drop).map_err(|broken| {
            let remedy = "find out whether the machine was started by kexec, set back to a snapshot, or copied";
            Finding::new("counters-continuity", &verified.node, broken.to_string(), remedy)
        })
    }
}
