//! Request bodies: a maximum for each resource, judged by the announced length before a byte is read and again while reading; a
//! budget for all bodies together, paid for as bytes arrive; and an end for senders that dawdle.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Verifier;
use super::refusal::Refused;

/// All bodies together, bytes.
const BUDGET: usize = 64 * 1024 * 1024;
/// Silence in the middle of a body.
const SILENCE: Duration = Duration::from_secs(5);

/// What all bodies may take.
pub struct Budget(Arc<Semaphore>);

/// A body of at most `MAX` bytes. Its part of the budget is given back when it is dropped.
pub struct Received<const MAX: usize> {
    /// The bytes.
    pub bytes: Vec<u8>,
    _part: Option<OwnedSemaphorePermit>,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

impl<const MAX: usize> FromRequest<Arc<Verifier>> for Received<MAX> {
    type Rejection = Refused;

    async fn from_request(request: Request, verifier: &Arc<Verifier>) -> Result<Self, Refused> {
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > MAX as u64) {
            return Err(Refused::too_large(MAX));
        }
        receive(request.into_body(), &verifier.bodies).await
    }
}

async fn receive<const MAX: usize>(mut body: Body, budget: &Budget) -> Result<Received<MAX>, Refused> {
    let mut received = Received {
        bytes: Vec::new(),
        _part: None,
    };
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| Refused::too_slow())?;
        let Some(frame) = frame else {
            return Ok(received);
        };
        let frame = frame.map_err(|_| Refused::bad_request("the request ended in the middle"))?;
        let Ok(data) = frame.into_data() else {
            continue; // Trailers mean nothing here.
        };
        if received.bytes.len() + data.len() > MAX {
            return Err(Refused::too_large(MAX));
        }
        received.pay(data.len(), budget)?;
        received.bytes.extend_from_slice(&data);
    }
}

impl<const MAX: usize> Received<MAX> {
    fn pay(&mut self, bytes: usize, budget: &Budget) -> Result<(), Refused> {
        let count = u32::try_from(bytes).map_err(|_| Refused::busy())?;
        let part = budget
            .0
            .clone()
            .try_acquire_many_owned(count)
            .map_err(|_| Refused::busy())?;
        match &mut self._part {
            Some(mine) => mine.merge(part),
            none => *none = Some(part),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;

    #[tokio::test]
    async fn one_byte_more_than_the_maximum_is_refused_and_the_budget_comes_back() {
        let budget = Budget::default();
        let full = receive::<10>(Body::from(vec![0; 10]), &budget)
            .await
            .ok()
            .expect("fits");
        assert_eq!(budget.0.available_permits(), BUDGET - 10);
        assert!(receive::<10>(Body::from(vec![0; 11]), &budget).await.is_err());
        drop(full);
        assert_eq!(budget.0.available_permits(), BUDGET);
    }

    #[tokio::test]
    async fn when_the_budget_is_spent_others_are_told_to_come_back() {
        let budget = Budget(Arc::new(Semaphore::new(15)));
        let first = receive::<10>(Body::from(vec![0; 10]), &budget).await;
        assert!(first.is_ok());
        let second = receive::<10>(Body::from(Bytes::from_static(&[0; 10])), &budget)
            .await
            .err();
        assert_eq!(second.expect("refused").status(), 503);
    }
}
