//! What the server's errors mean, for the operator and for what follows from them.

use rempart_core::reference::Reference;
use rustify::errors::ClientError as RestError;
use vaultrs::{api::EndpointError, error::ClientError};

use super::{Login, OpenBao};
use crate::{BackendError, error::one_line};

/// What the JWT auth method says when it has no keys to judge a result by.
const VALIDATOR: [&str; 2] = ["error configuring token validator", "fetching keys"];

impl OpenBao {
    pub(super) fn absent(&self, reference: &Reference) -> BackendError {
        BackendError::Absent {
            server: self.server.clone(),
            reference: reference.to_string(),
        }
    }

    pub(super) fn explain_login(&self, error: ClientError, role: &str) -> BackendError {
        let server = self.server.clone();
        match Answer::of(&error) {
            Answer::Refused { status: 404, .. } => BackendError::Misconfigured {
                server,
                why: match &self.login {
                    Login::Jwt { mount } => format!("no JWT auth is mounted at {mount}"),
                    Login::Cert { mount } => format!("no certificate auth is mounted at {mount}"),
                    Login::AppRole { mount, .. } => format!("no AppRole auth is mounted at {mount}"),
                },
            },
            // It could not ask the Verifier for its keys, or could not take what it got: that is no word on this node.
            Answer::Refused { status: 400, why } if VALIDATOR.iter().any(|words| why.contains(words)) => {
                BackendError::Unreachable { server, why }
            }
            Answer::Refused {
                status: 400 | 401 | 403,
                why,
            } => BackendError::Denied {
                server,
                what: "the login".into(),
                role: role.to_owned(),
                why,
            },
            other => self.explain(other),
        }
    }

    pub(super) fn explain_read(&self, answer: Answer, role: &str, reference: &Reference) -> BackendError {
        match answer {
            Answer::Refused { status: 404, .. } => self.absent(reference),
            Answer::Refused {
                status: 400 | 401 | 403,
                why,
            } => BackendError::Denied {
                server: self.server.clone(),
                what: reference.to_string(),
                role: role.to_owned(),
                why,
            },
            other => self.explain(other),
        }
    }

    pub(super) fn explain(&self, answer: Answer) -> BackendError {
        let server = self.server.clone();
        match answer {
            Answer::Refused { status: 503, why } if why.contains("sealed") => BackendError::Sealed { server },
            Answer::Refused {
                status: 412 | 429 | 500..,
                why,
            } => BackendError::Unreachable { server, why },
            Answer::Refused { status, why } => BackendError::Misconfigured {
                server,
                why: format!("HTTP {status}: {why}"),
            },
            Answer::None(why) => BackendError::Unreachable { server, why },
            Answer::Malformed => BackendError::Misconfigured {
                server,
                why: "it does not answer as OpenBao does".into(),
            },
        }
    }
}

/// What came back, told apart by what follows from it.
pub(super) enum Answer {
    Refused { status: u16, why: String },
    None(String),
    Malformed,
}

impl Answer {
    /// What was to be ended is no more, or not ours to end.
    pub(super) fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 401 | 403 | 404,
                ..
            }
        )
    }

    /// The server itself has said no: it has done nothing of what it was asked.
    pub(super) fn is_no(&self) -> bool {
        matches!(self, Self::Refused { status: 400..500, .. })
    }

    pub(super) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::APIError { code, errors } => Self::Refused {
                status: *code,
                why: one_line(&errors.join("; ")),
            },
            ClientError::RestClientError { source } => Self::of_rest(source),
            _ => Self::Malformed,
        }
    }

    pub(super) fn of_rest(error: &RestError) -> Self {
        match error {
            RestError::ServerResponseError { code, content } => Self::Refused {
                status: *code,
                why: content
                    .as_ref()
                    .and_then(|text| serde_json::from_str::<EndpointError>(text).ok())
                    .map(|told| one_line(&told.errors.join("; ")))
                    .filter(|why| !why.is_empty())
                    .unwrap_or_else(|| "it gave no reason".into()),
            },
            RestError::RequestError { source, .. } | RestError::ResponseError { source } => {
                // The root of the chain says what happened (refused, timed out, bad certificate).
                Self::None(one_line(&source.root_cause().to_string()))
            }
            _ => Self::Malformed,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { status, why } => write!(out, "HTTP {status}: {why}"),
            Self::None(why) => out.write_str(why),
            Self::Malformed => out.write_str("an answer that makes no sense"),
        }
    }
}
