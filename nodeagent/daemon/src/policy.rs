//! Hears from the Verifier that it has another policy, so that the node attests under it before its interval is over.
//!
//! The node asks once and the Verifier holds the answer until there is news: an idle connection, no polling. A Verifier that has no
//! room for another held question says so, and the node leaves it at its interval, which bounds the time that an old policy counts
//! in any case. What is heard decides nothing: it only makes the node attest earlier. Must never ask in a tight loop, whatever the
//! Verifier answers.

use std::{sync::Arc, time::Duration};

use rempart_attest::{
    api::{WATCH, WatchRequest, WatchResponse},
    limits,
};
use rempart_backend::https::{Connection, HttpsError, Trust};
use rempart_core::config::Origin;

use crate::{clock, node::Node};

/// How long after the last question the next one is asked at the earliest.
const BREATH: Duration = Duration::from_secs(5);
/// After a Verifier that was not there: it restarts, or the connection broke. Each node waits half of it to half as much again.
const AWAY: Duration = Duration::from_secs(120);
/// How much longer than the Verifier holds an answer the node waits for it.
const SLACK: Duration = Duration::from_secs(30);

/// Watches for as long as the agent runs. `interval` is between two attestations.
pub async fn watch(node: Arc<Node>, verifier: Origin, trust: Trust, interval: Duration) {
    let mut views = node.view();
    loop {
        let Some(policy) = node.policy() else {
            // Nothing was granted; the state changes when something is.
            if views.changed().await.is_err() {
                return;
            }
            continue;
        };
        let wait = match ask(&verifier, &trust, &policy).await {
            Ok(now) if now == policy => BREATH,
            // The attestation under the new policy comes first; until it is done the answer would be the same.
            Ok(_) if node.policy().as_ref() == Some(&policy) => {
                node.policy_changed();
                rempart_core::machine::POLICY_SPREAD * 2
            }
            Ok(_) => BREATH,
            Err(error) => {
                tracing::debug!("the Verifier does not tell of policy changes: {error}");
                match error {
                    // It has no room for another question, or does not know this one.
                    HttpsError::Refused { .. } => interval,
                    _ => AWAY.min(interval),
                }
            }
        };
        tokio::time::sleep(wait / 2 + wait * clock::jitter() / 1000).await;
    }
}

async fn ask(verifier: &Origin, trust: &Trust, policy: &str) -> Result<String, HttpsError> {
    let request = WatchRequest {
        policy: policy.to_owned(),
    };
    let mut connection = Connection::open(verifier, trust).await?;
    let answer: WatchResponse = connection
        .post_patiently(WATCH, &request, Duration::from_secs(limits::WATCH_HOLD) + SLACK)
        .await?;
    Ok(answer.policy)
}
