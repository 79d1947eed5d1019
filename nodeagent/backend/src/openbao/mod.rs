//! OpenBao and HashiCorp Vault: login by the Attestation Result or by a client certificate, secrets from KV version 2.
//!
//! One token a role, kept until the role is no longer granted, the node locks, or the token's own end; renewed only when the
//! Verifier has just said yes again; then revoked. Must never keep a token after a refusal.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use rempart_core::{config::Origin, reference::Reference};
use rempart_secret::{SecretBytes, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;
use vaultrs::client::VaultClientSettings;

use crate::{Accessors, Backend, BackendError, Grant, GrantSource, Later, error::one_line, https::Trust};
use client::Client;
use session::Session;

/// What the server's errors mean.
mod answer;
/// One conversation.
mod client;
/// Login, renewal, revocation.
mod session;

pub use session::Login;

/// Renewing one token; whoever wants a secret meanwhile waits behind it.
const RENEWAL: Duration = Duration::from_secs(10);

/// An OpenBao server.
pub struct OpenBao {
    server: String,
    login: Login,
    trust: Trust,
    accessors: Option<Accessors>,
    http: reqwest::Client,
    settings: VaultClientSettings,
    sessions: Mutex<HashMap<String, Session>>,
}

impl OpenBao {
    /// The server at `origin`, where the node logs in by `login`. `accessors` is told of each token.
    pub fn new(
        origin: &Origin,
        login: Login,
        trust: &Trust,
        accessors: Option<Accessors>,
    ) -> Result<Self, BackendError> {
        let server = origin.url();
        let misconfigured = |why: String| BackendError::Misconfigured {
            server: server.clone(),
            why: one_line(&why),
        };
        let http = client::http(trust).map_err(|error| misconfigured(error.to_string()))?;
        let settings = client::settings(&server).map_err(misconfigured)?;
        Ok(Self {
            server,
            login,
            trust: trust.clone(),
            accessors,
            http,
            settings,
            sessions: Mutex::default(),
        })
    }

    fn client(&self, http: reqwest::Client, token: Option<&SecretString>) -> Client {
        Client::new(&self.server, &self.settings, http, token)
    }

    async fn read(
        &self,
        session: &Session,
        role: &str,
        wanted: &[Reference],
    ) -> Result<Vec<SecretBytes>, BackendError> {
        let client = self.client(self.http.clone(), Some(&session.token));
        let mut read: BTreeMap<(&str, &str), Fields> = BTreeMap::new();
        let mut values = Vec::with_capacity(wanted.len());
        for reference in wanted {
            let place = (reference.mount(), reference.path());
            if let Entry::Vacant(vacant) = read.entry(place) {
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
            if let Some(session) = sessions.get(role).filter(|session| session.usable()) {
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

    fn granted<'a>(&'a self, grant: &'a Grant, horizon: Duration) -> Later<'a, ()> {
        Box::pin(async move {
            let mut sessions = self.sessions.lock().await;
            let roles: Vec<String> = sessions.keys().cloned().collect();
            for role in roles {
                let Some(session) = sessions.remove(&role) else {
                    continue;
                };
                if !grant.roles.contains(&role) {
                    self.revoke(session).await;
                } else if let Some(kept) = self.renewed(session, &role, grant, horizon).await {
                    sessions.insert(role, kept);
                }
            }
        })
    }

    fn forget(&self) -> Later<'_, ()> {
        Box::pin(async move {
            for (_, session) in self.sessions.lock().await.drain() {
                self.revoke(session).await;
            }
        })
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
