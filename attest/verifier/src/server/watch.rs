//! `/v1/watch`: a node waits for another policy than the one that it was judged by. The answer is a digest, which is no secret; a held
//! question costs a connection, so only a part of all connections may wait.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use rempart_attest::api::{WatchRequest, WatchResponse};
use rempart_attest::limits;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Verifier;
use super::body::Received;
use super::refusal::{Refused, parse};
use crate::config::Limits;
use crate::registry::cache::ActiveError;

/// Held no longer than this, seconds; the connection's own end leaves room for it.
const HOLD: Duration = Duration::from_secs(limits::WATCH_HOLD);

/// Places for those who wait.
pub struct Watchers(Semaphore);

impl Watchers {
    /// Half of the connections, so that those who wait never keep out those who attest.
    pub fn new(limits: &Limits) -> Self {
        let half = usize::try_from(limits.connections / 2).unwrap_or(limits::WATCHERS);
        Self(Semaphore::new(half.min(limits::WATCHERS)))
    }
}

/// Answers when the policy in force is another one than the node's, or after a while.
pub async fn hold(
    State(verifier): State<Arc<Verifier>>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<WatchResponse>, Refused> {
    let known = parse::<WatchRequest>(&body.bytes)?.policy;
    drop(body);
    let _place = verifier.watchers.0.try_acquire().map_err(|_| Refused::busy())?;
    let mut installed = verifier.recent.installed();
    let end = Instant::now() + HOLD;
    loop {
        installed.mark_unchanged();
        let policy = verifier.recent.policy().await.map_err(|error| match error {
            ActiveError::None => Refused::forbidden(error.to_string()),
            ActiveError::Policy(_) | ActiveError::Signature(_) => Refused::internal(&error),
            ActiveError::Registry(_) => Refused::unavailable(&error),
        })?;
        let policy = policy.digest.to_string();
        let over = policy != known || !matches!(timeout_at(end, installed.changed()).await, Ok(Ok(())));
        if over {
            return Ok(Json(WatchResponse { policy }));
        }
    }
}
