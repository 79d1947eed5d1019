//! Refusals: JSON to the node, one clear line to the operator's log. Nothing that the Verifier keeps secret goes into either.

use axum::Json;
use axum::http::StatusCode;
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
        }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Database(_) | RegistryError::Damaged(_) => Self::internal(&error),
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
        if !self.status.is_server_error() {
            tracing::warn!("{}", self.refusal.error);
        }
        (self.status, Json(self.refusal)).into_response()
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

/// A request that took too long.
pub fn too_slow() -> Response {
    Refused::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
}
