//! How each node's last attestation ended: kept in memory and written down in batches, so that an attestation itself writes nothing.
//! What is lost when a replica dies is half a minute of times that nobody decides by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::registry::{self, Registry};

/// Between two batches.
const INTERVAL: Duration = Duration::from_secs(30);
/// Nodes in one transaction: some tens of milliseconds.
const BATCH: usize = 1000;
/// Nodes remembered between two batches; at 1,200 attestations a second there are 36,000.
const NODES: usize = 100_000;

/// Results that were not written down yet.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<String, registry::Seen>>);

impl Seen {
    /// A node was affirmed, or refused with authentic Evidence.
    pub fn note(&self, node: &str, outcome: &str) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < NODES || waiting.contains_key(node) {
            let seen = registry::Seen {
                at: clock::now(),
                outcome: outcome.into(),
            };
            waiting.insert(node.into(), seen);
        }
    }

    /// Writes down for ever.
    pub async fn write_down(self: Arc<Self>, registry: Arc<Registry>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.flush(&registry).await;
        }
    }

    /// Writes down what waits.
    pub async fn flush(&self, registry: &Registry) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            let batch = waiting.by_ref().take(BATCH).collect();
            if let Err(error) = registry.saw(batch).await {
                return tracing::warn!("times of attestations were not written down: {error}");
            }
        }
    }
}
