//! Revocation lists in memory, one for each generation and kind of key, and when to ask for the next. Only lists that were verified come
//! in, and never an older one than is there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rempart_attest::tee::crl::VerifiedCrl;
use rempart_attest::tee::snp::Generation;
use rempart_attest::tee::snp::bits::SigningKey;

/// How often somebody looks whether a list is due.
pub const LOOK: Duration = Duration::from_secs(60);
/// Age at which a list is renewed though it still counts, seconds: vendors publish a new one long before the old one lapses.
const RENEW: u64 = 6 * 3600;
/// After a failure, seconds.
const AGAIN: u64 = 300;

struct List {
    ark: Vec<u8>,
    /// DER, thisUpdate, nextUpdate.
    list: Option<(Vec<u8>, u64, u64)>,
    due: u64,
}

/// The lists.
#[derive(Default)]
pub struct Crls(Mutex<HashMap<(Generation, SigningKey), List>>);

impl Crls {
    fn lists<T>(&self, with: impl FnOnce(&mut HashMap<(Generation, SigningKey), List>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A list that counts now.
    pub fn current(&self, generation: Generation, kind: SigningKey, now: u64) -> Option<Vec<u8>> {
        self.lists(|lists| {
            let (der, _, next) = lists.get(&(generation, kind))?.list.as_ref()?;
            (now <= *next).then(|| der.clone())
        })
    }

    /// When the newest list was made.
    pub fn this_update(&self, generation: Generation, kind: SigningKey) -> Option<u64> {
        self.lists(|lists| Some(lists.get(&(generation, kind))?.list.as_ref()?.1))
    }

    /// The root whose list it is.
    pub fn ark(&self, generation: Generation, kind: SigningKey) -> Option<Vec<u8>> {
        self.lists(|lists| Some(lists.get(&(generation, kind))?.ark.clone()))
    }

    /// Notes that a list is wanted, though there is none yet.
    pub fn want(&self, generation: Generation, kind: SigningKey, ark: &[u8]) {
        self.lists(|lists| {
            lists.entry((generation, kind)).or_insert_with(|| List {
                ark: ark.to_vec(),
                list: None,
                due: 0,
            });
        });
    }

    /// Takes a verified list; false, and nothing changes, where a newer one is there.
    pub fn put(
        &self,
        generation: Generation,
        kind: SigningKey,
        ark: &[u8],
        der: &[u8],
        crl: &VerifiedCrl,
        now: u64,
    ) -> bool {
        self.lists(|lists| {
            let due = now + RENEW.min(crl.next_update.saturating_sub(now) / 2);
            let old = lists.get(&(generation, kind)).and_then(|l| l.list.as_ref());
            let newer = old.is_none_or(|(_, this, _)| crl.this_update >= *this);
            if newer {
                let list = List {
                    ark: ark.to_vec(),
                    list: Some((der.to_vec(), crl.this_update, crl.next_update)),
                    due,
                };
                lists.insert((generation, kind), list);
            }
            newer
        })
    }

    /// The lists to be asked for now.
    pub fn due(&self, now: u64) -> Vec<(Generation, SigningKey)> {
        self.lists(|lists| {
            let due = lists.iter().filter(|(_, list)| list.due <= now);
            due.map(|(name, _)| *name).collect()
        })
    }

    /// After a failure.
    pub fn postpone(&self, generation: Generation, kind: SigningKey, now: u64) {
        self.lists(|lists| {
            if let Some(list) = lists.get_mut(&(generation, kind)) {
                list.due = now + AGAIN;
            }
        });
    }
}
