//! OpenBao and HashiCorp Vault: login by JWT (the Attestation Result), secrets from KV version 2.
//!
//! One token a role, kept until the role is no longer granted, the node locks, or the token's own end; then revoked.
//! Must never take its address, CA, proxy or token from the environment, and must never keep a token after a refusal.
//! Follows the HTTP API of OpenBao 2 (auth/jwt, KV v2, auth/token/revoke-self).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rempart_core::{config::Origin, reference::Reference};
use rempart_secret::{SecretBytes, SecretString};
use rustify::clients::reqwest::Client as HttpClient;
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;
use vaultrs::{
    api::EndpointMiddleware,
    client::{VaultClient, VaultClientSettings, VaultClientSettingsBuilder},
    error::ClientError,
};
use zeroize::Zeroize;

use crate::{Backend, BackendError, Grant, GrantSource, Later, error::one_line, https::Trust};

/// One request and its answer.
const EXCHANGE: Duration = Duration::from_secs(30);
/// A token that ends sooner than this is not used any more: a request under way must not outlive it.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// An OpenBao server.
pub struct OpenBao {
    server: String,
    auth_mount: String,
    http: reqwest::Client,
    settings: VaultClientSettings,
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    token: SecretString,
    end: Instant,
}

impl OpenBao {
    /// The server at `origin`, JWT auth mounted at `auth_mount`.
    pub fn new(origin: &Origin, auth_mount: &str, trust: &Trust) -> Result<Self, BackendError> {
        let server = origin.url();
        let misconfigured = |why: String| BackendError::Misconfigured {
            server: server.clone(),
            why: one_line(&why),
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trust.0.as_ref().clone())
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(EXCHANGE)
            .build()
            .map_err(|error| misconfigured(error.to_string()))?;
        // Each value is set: what is not set, vaultrs takes from the environment.
        let settings = VaultClientSettingsBuilder::default()
            .address(&server)
            .ca_certs(Vec::new())
            .identity(None)
            .timeout(Some(EXCHANGE))
            .token("")
            .verify(true)
            .build()
            .map_err(|error| misconfigured(error.to_string()))?;
        Ok(Self {
            server,
            auth_mount: auth_mount.to_owned(),
            http,
            settings,
            sessions: Mutex::default(),
        })
    }

    async fn read(
        &self,
        session: &Session,
        role: &str,
        wanted: &[Reference],
    ) -> Result<Vec<SecretBytes>, BackendError> {
        let client = Client::new(self, Some(&session.token));
        let mut read: BTreeMap<(&str, &str), Fields> = BTreeMap::new();
        let mut values = Vec::with_capacity(wanted.len());
        for reference in wanted {
            let place = (reference.mount(), reference.path());
            if let std::collections::btree_map::Entry::Vacant(vacant) = read.entry(place) {
                let fields = vaultrs::kv2::read(&client.0, place.0, place.1).await;
                vacant.insert(fields.map_err(|error| self.explain_read(error, role, reference))?);
            }
            let value = read.get(&place).and_then(|fields| fields.0.get(reference.field()));
            values.push(match value {
                Some(Field::Text(text)) => copy(text),
                Some(Field::Other) => {
                    let why = format!("{reference} is no string");
                    return Err(BackendError::Misconfigured {
                        server: self.server.clone(),
                        why,
                    });
                }
                None => return Err(self.absent(reference)),
            });
        }
        Ok(values)
    }

    async fn log_in(&self, role: &str, grant: &Grant) -> Result<Session, BackendError> {
        grant.demand(role)?;
        let client = Client::new(self, None);
        let asked = Instant::now();
        let auth =
            vaultrs::auth::oidc::login(&client.0, &self.auth_mount, grant.ear.expose(), Some(role.to_owned())).await;
        let auth = auth.map_err(|error| self.explain_login(error, role))?;
        Ok(Session {
            token: SecretString::new(auth.client_token),
            end: asked + Duration::from_secs(auth.lease_duration.min(24 * 3600)),
        })
    }

    async fn revoke(&self, session: Session) {
        let client = Client::new(self, Some(&session.token));
        // A token that the server could not be told to revoke ends by itself; the agent forgets it either way.
        drop(vaultrs::token::revoke_self(&client.0).await);
    }

    fn absent(&self, reference: &Reference) -> BackendError {
        BackendError::Absent {
            server: self.server.clone(),
            reference: reference.to_string(),
        }
    }

    fn explain_login(&self, error: ClientError, role: &str) -> BackendError {
        let server = self.server.clone();
        match Answer::of(&error) {
            Answer::Refused { status: 404, .. } => BackendError::Misconfigured {
                server,
                why: format!("no JWT auth is mounted at {}", self.auth_mount),
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

    fn explain_read(&self, error: ClientError, role: &str, reference: &Reference) -> BackendError {
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

impl Backend for OpenBao {
    fn fetch<'a>(
        &'a self,
        role: &'a str,
        wanted: &'a [Reference],
        grants: &'a dyn GrantSource,
    ) -> Later<'a, Result<Vec<SecretBytes>, BackendError>> {
        Box::pin(async move {
            let mut sessions = self.sessions.lock().await;
            if let Some(session) = sessions
                .get(role)
                .filter(|session| Instant::now() + TOKEN_MARGIN < session.end)
            {
                match self.read(session, role, wanted).await {
                    // The owner may have revoked the token or changed its policy: a new login tells which.
                    Err(BackendError::Denied { .. }) => {}
                    done => return done,
                }
            }
            if let Some(old) = sessions.remove(role) {
                self.revoke(old).await;
            }
            let grant = grants.fresh().await.map_err(BackendError::NoGrant)?;
            let session = self.log_in(role, &grant).await?;
            let values = self.read(&session, role, wanted).await;
            match values {
                Ok(_) => drop(sessions.insert(role.to_owned(), session)),
                Err(_) => self.revoke(session).await,
            }
            values
        })
    }

    fn keep_only<'a>(&'a self, roles: &'a [String]) -> Later<'a, ()> {
        Box::pin(async move {
            let mut sessions = self.sessions.lock().await;
            let lost: Vec<String> = sessions.keys().filter(|role| !roles.contains(role)).cloned().collect();
            for role in lost {
                if let Some(session) = sessions.remove(&role) {
                    self.revoke(session).await;
                }
            }
        })
    }

    fn forget(&self) -> Later<'_, ()> {
        Box::pin(async move { self.keep_only(&[]).await })
    }
}

/// A vaultrs client for one conversation; wipes its copy of the token.
struct Client(VaultClient);

impl Client {
    fn new(bao: &OpenBao, token: Option<&SecretString>) -> Self {
        let token = token.map(|token| token.expose().clone()).unwrap_or_default();
        let middle = EndpointMiddleware {
            token,
            version: "v1".into(),
            wrap: None,
            namespace: None,
        };
        let http = HttpClient::new(&bao.server, bao.http.clone());
        Self(VaultClient {
            http,
            middle,
            settings: bao.settings.clone(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.middle.token.zeroize();
    }
}

/// The fields of one KV secret.
#[derive(Deserialize)]
struct Fields(HashMap<String, Field>);

enum Field {
    Text(SecretString),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // From a `Value` the string is moved, not copied.
        Ok(match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => Self::Text(SecretString::new(text)),
            _ => Self::Other,
        })
    }
}

fn copy(text: &SecretString) -> SecretBytes {
    let bytes = text.expose().as_bytes();
    SecretBytes::build(bytes.len(), |out| out.copy_from_slice(bytes))
}

/// What came back, told apart by what follows from it.
enum Answer {
    Refused { status: u16, why: String },
    None(String),
    Malformed,
}

impl Answer {
    fn of(error: &ClientError) -> Self {
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
