//! What the server's errors mean, for the operator and for what follows from them.

use rempart_core::reference::Reference;
use vaultrs::error::ClientError;

use super::{Login, OpenBao};
use crate::{BackendError, error::one_line};

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
                },
            },
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

    pub(super) fn explain_read(&self, error: ClientError, role: &str, reference: &Reference) -> BackendError {
        match Answer::of(&error) {
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

    fn explain(&self, answer: Answer) -> BackendError {
        let server = self.server.clone();
        match answer {
            Answer::Refused { status: 503, why } if why.contains("sealed") => BackendError::Sealed { server },
            Answer::Refused {
                status: 500.. | 429,
                why,
            } => BackendError::Unreachable { server, why },
            Answer::Refused { status, why } => BackendError::Misconfigured {
                server,
                why: format!("HTTP {status}: {why}"),
            },
            Answer::None(why) => BackendError::Unreachable { server, why },
            Answer::Malformed => BackendError::Misconfigured {
                server,
                why: "it does not answer as OpenBao does (is this KV version 2?)".into(),
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
    pub(super) fn of(error: &ClientError) -> Self {
        use rustify::errors::ClientError as Rest;
        match error {
            ClientError::APIError { code, errors } => Self::Refused {
                status: *code,
                why: one_line(&errors.join("; ")),
            },
            ClientError::RestClientError {
                source: Rest::ServerResponseError { code, .. },
            } => Self::Refused {
                status: *code,
                why: "it gave no reason".into(),
            },
            ClientError::RestClientError {
                source: Rest::RequestError { source, .. } | Rest::ResponseError { source },
            } => {
                // The root of the chain says what happened (refused, timed out, bad certificate).
                Self::None(one_line(&source.root_cause().to_string()))
            }
            _ => Self::Malformed,
        }
    }
}
