//! Who may ask how often: token buckets by source before TLS and before each request, by node once its name is known, and a cap on
//! each source's connections. Nothing here looks at a request's content, and what it remembers of a source is some 50 bytes for
//! some seconds.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refused;
use crate::config::Limits;

/// How often buckets that are full again are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// Where a request comes from: an IPv4 address, or the /64 that one IPv6 customer has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

/// All counters.
pub struct Admission {
    sources: DefaultKeyedRateLimiter<Source>,
    /// By source too: a stranger elsewhere cannot use up what a node may ask for.
    claims: DefaultKeyedRateLimiter<(Source, String)>,
    open: Arc<Mutex<HashMap<Source, u32>>>,
    most: u32,
}

/// A connection's place; given back when dropped.
pub struct Place {
    open: Arc<Mutex<HashMap<Source, u32>>>,
    source: Source,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

impl Admission {
    /// Full buckets for everybody.
    pub fn new(limits: &Limits) -> Self {
        let one = NonZeroU32::MIN;
        let count = |n: u32| NonZeroU32::new(n).unwrap_or(one);
        let source = Quota::per_second(count(limits.source_per_second)).allow_burst(count(limits.source_burst));
        Self {
            sources: RateLimiter::keyed(source),
            claims: RateLimiter::keyed(Quota::per_minute(count(limits.node_per_minute))),
            open: Arc::default(),
            most: limits.connections_per_source,
        }
    }

    /// A new connection: none when the source has too many, or came too often. Told to nobody, because a TLS handshake for a
    /// refusal would cost more than most requests.
    pub fn connection(&self, source: Source) -> Option<Place> {
        self.sources.check_key(&source).ok()?;
        let mut open = lock(&self.open);
        let count = open.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            open: self.open.clone(),
            source,
        })
    }

    /// A request, before anything of it is read.
    pub fn request(&self, source: Source) -> Result<(), Refused> {
        check(&self.sources, &source, "this address asks too often")
    }

    /// A request that says it is about a node, before its signatures are looked at.
    pub fn claim(&self, source: Source, node: &str) -> Result<(), Refused> {
        check(&self.claims, &(source, node.into()), "this node asks too often")
    }

    /// Forgets full buckets for ever.
    pub async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sources.retain_recent();
            self.claims.retain_recent();
            self.sources.shrink_to_fit();
            self.claims.shrink_to_fit();
        }
    }
}

fn check<K: Hash + Eq + Clone>(bucket: &DefaultKeyedRateLimiter<K>, key: &K, why: &str) -> Result<(), Refused> {
    bucket.check_key(key).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Refused::too_many(why, wait)
    })
}

fn lock(open: &Mutex<HashMap<Source, u32>>) -> MutexGuard<'_, HashMap<Source, u32>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        match open.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().expect("address").into()
    }

    fn admission() -> Admission {
        Admission::new(&Limits {
            connections_per_source: 2,
            source_per_second: 1,
            source_burst: 4,
            node_per_minute: 1,
            ..Limits::default()
        })
    }

    #[test]
    fn an_ipv6_customer_and_a_mapped_ipv4_address_are_one_source_each() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn a_source_has_so_many_connections_and_gets_them_back() {
        let admission = admission();
        let (first, second) = (admission.connection(source("::1")), admission.connection(source("::1")));
        assert!(first.is_some() && second.is_some());
        assert!(admission.connection(source("::1")).is_none());
        assert!(
            admission.connection(source("192.0.2.1")).is_some(),
            "another has its own"
        );
        drop(first);
        assert!(admission.connection(source("::1")).is_some());
        drop(second);
        assert!(lock(&admission.open).len() <= 1, "who has none is forgotten");
    }

    #[test]
    fn a_stranger_does_not_use_up_a_nodes_part() {
        let admission = admission();
        assert!(admission.claim(source("192.0.2.66"), "demo-1").is_ok());
        assert!(admission.claim(source("192.0.2.66"), "demo-1").is_err());
        assert!(admission.claim(source("192.0.2.1"), "demo-1").is_ok());
    }
}
