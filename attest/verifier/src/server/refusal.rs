//! Refusals: JSON to the node, one clear line to the operator's log. Nothing that the Verifier keeps secret goes into either.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rempart_attest::Finding;
use rempart_attest::api::Refusal;
use serde::de::DeserializeOwned;

use crate::enrolment::EnrolError;
use crate::registry::RegistryError;

/// A request that was not granted.
pub struct Refused {
    status: StatusCode,
    refusal: Refusal,
    retry_after: Option<u64>,
    /// The rest of the request is not wanted.
    close: bool,
}

impl Refused {
    /// The node's fault or the owner's decision: it is told why.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// The request itself is wrong.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Our fault: the detail goes to the log, not to the node.
    pub fn internal(why: &dyn std::fmt::Display) -> Self {
        tracing::error!("{why}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the Verifier has an internal error; its log says which",
        )
    }

    /// The registry is away: nobody is refused for that, and nobody is affirmed either.
    pub fn unavailable(why: &dyn std::fmt::Display) -> Self {
        tracing::error!("{why}");
        Self {
            retry_after: Some(5),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the Verifier's registry is away; its log says why",
            )
        }
    }

    /// More than this source or node may ask for.
    pub fn too_many(why: &str, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait.as_secs() + 1),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, why)
        }
    }

    /// More than all together may ask for.
    pub fn busy() -> Self {
        Self {
            retry_after: Some(1),
            close: true,
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the Verifier is busy: ask again in a moment",
            )
        }
    }

    /// A body over its maximum; the connection ends, because nobody reads the rest.
    pub fn too_large(max: usize) -> Self {
        Self {
            close: true,
            ..Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is larger than {max} bytes"),
            )
        }
    }

    /// A sender that dawdles.
    pub fn too_slow() -> Self {
        Self {
            close: true,
            ..Self::new(StatusCode::REQUEST_TIMEOUT, "the request took too long")
        }
    }

    /// The node stays refused until an operator clears it.
    pub fn latched(node: &str, findings: Vec<Finding>) -> Self {
        let mut refused = Self::findings(node, findings);
        refused.refusal.latched = true;
        refused
    }

    /// Whoever sent it is not read any further.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// As it stands on the wire, for a request of which HTTP never saw a whole head.
    pub fn bytes(&self) -> Vec<u8> {
        let body = serde_json::to_vec(&self.refusal).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.status,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    /// The HTTP status.
    #[cfg(test)]
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Failed checks.
    pub fn findings(node: &str, findings: Vec<Finding>) -> Self {
        let error = match findings.as_slice() {
            [one] => format!("attestation refused: {one}"),
            many => {
                let what: Vec<&str> = many.iter().map(|f| f.what.as_str()).collect();
                format!(
                    "attestation of {node} refused, {} checks failed: {}",
                    many.len(),
                    what.join("; ")
                )
            }
        };
        for finding in &findings {
            tracing::debug!(check = finding.check, "{finding}");
        }
        Self {
            refusal: Refusal {
                error,
                findings,
                latched: false,
            },
            ..Self::forbidden("")
        }
    }

    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            refusal: Refusal {
                error: error.into(),
                findings: vec![],
                latched: false,
            },
            retry_after: None,
            close: false,
        }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Database(_) | RegistryError::Damaged(_) => Self::unavailable(&error),
            _ => Self::forbidden(error.to_string()),
        }
    }
}

impl From<EnrolError> for Refused {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Registry(error) => error.into(),
            EnrolError::Provider => Self::internal(&error),
            _ => Self::forbidden(format!("enrolment refused: {error}")),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // Whoever asks too much or too slowly must not fill the log too.
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                tracing::debug!("{}", self.refusal.error);
            }
            status if status.is_server_error() => {}
            _ => tracing::warn!("{}", self.refusal.error),
        }
        let mut response = (self.status, Json(self.refusal)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if self.close {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A JSON body whose size axum has judged already.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|e| Refused::bad_request(format!("the request is not the JSON that is expected: {e}")))
}

/// Any other path.
pub async fn not_found() -> Response {
    Refused::new(StatusCode::NOT_FOUND, "there is no such resource on this Verifier").into_response()
}
