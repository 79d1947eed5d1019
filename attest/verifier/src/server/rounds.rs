//! What the last authentic round of a node left behind, in memory: its AK, whose certificate then need not be verified again, and its
//! TPM's counters. A boot that the TPM did not see (kexec into a kernel that nobody measured leaves the registers as they were), a
//! machine that was set back to a snapshot, and two machines that share one TPM show in the counters only. A replica that was
//! restarted or never saw the node knows nothing and says nothing.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rempart_attest::ak::{self, VerifiedAk};
use rempart_attest::tpm::counters::{Counters, continues};
use rempart_attest::verify::Verified;
use rempart_attest::{Finding, Fixed};

/// Entries of one half of a memory, count: some 600 bytes each. What is used stays, so fleets of up to this many are remembered whole.
const HALF: usize = 131_072;

/// The newest entries, bounded: when the young half is full it becomes the old one, and what was not used meanwhile is forgotten.
struct Memory<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Memory<K, V> {
    fn of(half: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half,
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Puts `value` in the place of the last one, and gives that.
    fn put(&mut self, key: K, value: V) -> Option<V> {
        let before = self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value).or(before)
    }
}

struct Kept {
    /// By digest of the certificate: one that was made anew is verified anew.
    aks: Memory<Fixed<32>, VerifiedAk>,
    /// By node and AK. Not by the certificate: a node that enrols again, as one without a lasting disk does at each boot, would else
    /// leave behind what it is to be compared with.
    counters: Memory<(String, Fixed<32>), Counters>,
}

/// The last rounds.
pub struct Rounds(Mutex<Kept>);

impl Default for Rounds {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            aks: Memory::of(HALF),
            counters: Memory::of(HALF),
        }))
    }
}

impl Rounds {
    /// The AK of this certificate, when it was verified before.
    pub fn ak(&self, pem: &str) -> Option<VerifiedAk> {
        self.lock().aks.get(&ak::pem_digest(pem)).cloned()
    }

    /// Compares with the last round and takes this one's place in it. A break is told once: what comes after it is compared with it.
    pub fn follow(&self, verified: &Verified) -> Result<(), Finding> {
        let (ak, now) = (&verified.ak, verified.counters);
        let mut kept = self.lock();
        kept.aks.put(*ak.pem_digest(), ak.clone());
        let Some(last) = kept.counters.put((verified.node.clone(), *ak.key_id()), now) else {
            return Ok(());
        };
        continues(&last, &now).map(drop).map_err(|broken| {
            let remedy = "find out whether the machine was started by kexec, set back to a snapshot, or copied";
            Finding::new("counters-continuity", &verified.node, broken.to_string(), remedy)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let mut memory = Memory::of(4);
        for key in 0..100 {
            memory.put("used".to_owned(), key);
            memory.put(key.to_string(), key);
            assert_eq!(memory.get(&"used".to_owned()), Some(&key));
            assert!(memory.young.len() <= 4 && memory.old.len() <= 4, "bounded");
        }
        assert_eq!(memory.get(&"1".to_owned()), None);
        assert_eq!(
            memory.put("used".to_owned(), 100),
            Some(99),
            "the last one comes back once"
        );
    }
}
