//! Verified keys in memory, by chip and TCB, until certificates or list lapse; failures for a short while, by the node whose they are:
//! a report is not authentic while its key is looked for, so nobody may spoil another's chip. Bounded: when it is full, the oldest half
//! goes, and the store or the vendor is asked again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rempart_attest::bytes::sha256;
use rempart_attest::tee::Vek;
use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::snp::table::Table;
use rempart_attest::tee::snp::{Generation, Report, Tcb, VerifiedVek};
use rempart_attest::{Finding, Fixed};

use super::missing;

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
    /// None where a report does not say which key signed it.
    pub fn of(report: &Report, table: &Table<'_>) -> Option<Self> {
        let kind = report.keys.signing_key()?;
        Some(Self {
            kind,
            chip: report.chip_id,
            tcb: report.reported_tcb,
            cpuid: report.cpuid,
            // A VLEK has no name of its own, and nobody but the host has it.
            supplied: match kind {
                SigningKey::Vcek => None,
                SigningKey::Vlek => table.vlek.map(sha256),
            },
        })
    }

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
    vek: Arc<VerifiedVek>,
    until: u64,
}

/// A search that brought nothing.
struct Waiting {
    key: Key,
    why: Finding,
    until: u64,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    /// By node.
    waiting: HashMap<String, Waiting>,
}

/// The cache.
#[derive(Default)]
pub struct Cache(Mutex<Kept>);

impl Cache {
    /// What is known, unless it has lapsed or `newest` tells of a newer list than the one it was held against.
    pub fn get(&self, key: &Key, now: u64, newest: impl Fn(&VerifiedVek) -> Option<u64>) -> Option<Vek> {
        let kept = self.lock();
        let vek = &kept.entries.get(key).filter(|entry| now <= entry.until)?.vek;
        let current = newest(vek).is_none_or(|newest| vek.crl.is_some_and(|(this, _)| this >= newest));
        current.then(|| Vek::Verified(vek.clone()))
    }

    /// Keeps a key until it lapses; one that no list was held against for `remembered` seconds, because one may come.
    pub fn keep(&self, key: &Key, vek: &Arc<VerifiedVek>, now: u64, remembered: u64) {
        let until = match vek.crl {
            None => now + remembered,
            Some(_) => vek.valid_until,
        };
        let mut kept = self.lock();
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

    /// Why `who` has to wait, if it has to: a node that invents a new chip each time must not spend what the vendor grants to all.
    pub fn refused(&self, who: &str, key: &Key, now: u64) -> Option<Finding> {
        let kept = self.lock();
        let waiting = kept.waiting.get(who).filter(|waiting| now <= waiting.until)?;
        Some(match waiting.key == *key {
            true => waiting.why.clone(),
            false => missing("a search for this node brought nothing a moment ago"),
        })
    }

    /// Lets `who` wait for `seconds` after a search that brought nothing.
    pub fn let_wait(&self, who: &str, key: &Key, why: &Finding, now: u64, seconds: u64) {
        let mut kept = self.lock();
        if kept.waiting.len() >= KEPT {
            kept.waiting.retain(|_, waiting| now <= waiting.until);
        }
        if kept.waiting.len() < KEPT {
            let waiting = Waiting {
                key: key.clone(),
                why: why.clone(),
                until: now + seconds,
            };
            kept.waiting.insert(who.to_owned(), waiting);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
