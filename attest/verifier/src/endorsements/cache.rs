//! Verified keys in memory, by chip and TCB, until certificates or list lapse; failures for a short while. Bounded: when it is full, the
//! oldest half goes, and the store or the vendor is asked again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use rempart_attest::Fixed;
use rempart_attest::tee::Vek;
use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::snp::{Generation, Tcb, VerifiedVek};

/// Keys kept, count: some 2 KiB each, so 64 MiB at most.
const KEPT: usize = 32 * 1024;

/// What a report says of the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// VCEK or VLEK.
    pub kind: SigningKey,
    /// CHIP_ID.
    pub chip: Fixed<64>,
    /// Reported TCB.
    pub tcb: Tcb,
    /// Family, model and stepping, since report version 3.
    pub cpuid: Option<[u8; 3]>,
    /// SHA-256 of the VLEK that came along.
    pub supplied: Option<Fixed<32>>,
}

impl Key {
    /// The generations that such a report can be of, the likeliest first.
    pub fn generations(&self) -> Vec<Generation> {
        if let Some([family, model, _]) = self.cpuid {
            return Generation::from_cpuid(family, model).into_iter().collect();
        }
        let short = self.chip.0[8..].iter().all(|b| *b == 0);
        match (self.kind, short) {
            (SigningKey::Vcek, true) => vec![Generation::Turin],
            (SigningKey::Vcek, false) => vec![Generation::Milan, Generation::Genoa],
            // Under a VLEK the host may hide the chip's id.
            (SigningKey::Vlek, _) => Generation::ALL.to_vec(),
        }
    }

    /// Whether this is the key that signed such a report.
    pub fn fits(&self, vek: &VerifiedVek) -> bool {
        let chip = vek.chip_id().is_none_or(|id| *id == self.chip);
        vek.holder.key() == self.kind && vek.tcb == self.tcb && chip
    }
}

struct Entry {
    vek: Vek,
    until: u64,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    /// Nodes whose last search brought nothing, and until when they have to wait.
    waiting: HashMap<String, u64>,
}

/// The cache.
#[derive(Default)]
pub struct Cache(Mutex<Kept>);

impl Cache {
    /// What is known, unless it has lapsed or `newest` tells of a newer list than the one it was held against.
    pub fn get(&self, key: &Key, now: u64, newest: impl Fn(&VerifiedVek) -> Option<u64>) -> Option<Vek> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entries.get(key).filter(|entry| now <= entry.until)?;
        let current = match &entry.vek {
            Vek::Verified(vek) => newest(vek).is_none_or(|newest| vek.crl.is_some_and(|(this, _)| this >= newest)),
            Vek::None | Vek::Refused(_) => true,
        };
        current.then(|| entry.vek.clone())
    }

    /// Keeps a key until it lapses, a failure for `remembered` seconds.
    pub fn put(&self, key: &Key, vek: &Vek, now: u64, remembered: u64) {
        let until = match vek {
            // Without a list, one may come: ask again soon.
            Vek::Verified(vek) if vek.crl.is_none() => now + remembered,
            Vek::Verified(vek) => vek.valid_until,
            Vek::None | Vek::Refused(_) => now + remembered,
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.order.len() >= KEPT {
            let old: Vec<_> = kept.order.drain(..KEPT / 2).collect();
            for key in old {
                kept.entries.remove(&key);
            }
        }
        let entry = Entry {
            vek: vek.clone(),
            until,
        };
        if kept.entries.insert(key.clone(), entry).is_none() {
            kept.order.push_back(key.clone());
        }
    }

    /// Whether `who` has to wait: a node that invents a new chip each time must not spend what the vendor grants to all.
    pub fn must_wait(&self, who: &str, now: u64) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.waiting.get(who).is_some_and(|until| now <= *until)
    }

    /// Lets `who` wait for `seconds`.
    pub fn let_wait(&self, who: &str, now: u64, seconds: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.waiting.len() >= KEPT {
            kept.waiting.retain(|_, until| now <= *until);
        }
        if kept.waiting.len() < KEPT {
            kept.waiting.insert(who.to_owned(), now + seconds);
        }
    }
}
