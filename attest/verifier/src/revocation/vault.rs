//! The few calls of OpenBao's and Vault's HTTP API that end logins: identity entities by alias, tokens by accessor. It needs a policy
//! with exactly these paths (docs of the package show it) and never reads a secret.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rempart_attest::ear::Signer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::clock;
use crate::config::{Login, VaultSettings};
use crate::error::Error;
use crate::file;
use crate::keys::{SigningKey, random};

/// One request and its answer: three of them must fit into the five seconds in which a drifted node's token ends.
const EXCHANGE: Duration = Duration::from_secs(4);
/// Longest answer, bytes: an entity with its aliases and policies.
const MAX_ANSWER: usize = 256 * 1024;
/// Life of the Verifier's own JWT, seconds.
const JWT_LIFE: u64 = 60;
/// A token of ours that ends sooner is not used any more.
const MARGIN: Duration = Duration::from_secs(30);
/// Who the Verifier is at the vault. No node can have this name: it has a colon.
pub const SUBJECT: &str = "rempart:verifier";

/// Why the vault did not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No connection, or it broke.
    #[error("the vault {url} is away: {why}")]
    Away {
        /// Its address.
        url: String,
        /// One line.
        why: String,
    },
    /// It refused.
    #[error("the vault {url} refused {what}: {status} {why}")]
    Refused {
        /// Its address.
        url: String,
        /// Method and path.
        what: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        why: String,
    },
    /// It answered something else than what its API says.
    #[error("the vault {url} answered {what} without {missing}")]
    Malformed {
        /// Its address.
        url: String,
        /// Method and path.
        what: String,
        /// What was expected.
        missing: &'static str,
    },
    /// We cannot log in.
    #[error("the vault's token cannot be had: {0}")]
    Login(#[from] Error),
}

/// One vault.
pub struct Vault {
    settings: VaultSettings,
    issuer: String,
    signing: Signer,
    http: reqwest::Client,
    token: Mutex<Option<(Zeroizing<String>, Instant)>>,
    /// Mount path to accessor; mounts do not move while we run, and a login there would fail first if they did.
    mounts: Mutex<HashMap<String, String>>,
}

impl Vault {
    /// Nothing is sent yet.
    pub fn new(settings: &VaultSettings, issuer: &str, signing: &SigningKey) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.tls.as_ref().clone())
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(EXCHANGE)
            .build()
            .map_err(|error| Error::Usage(format!("the vault's client cannot be made: {error}")))?;
        Ok(Self {
            settings: settings.clone(),
            issuer: issuer.into(),
            signing: signing.jwt().clone(),
            http,
            token: Mutex::default(),
            mounts: Mutex::default(),
        })
    }

    /// The entities whose alias at one of the mounts is the node's name.
    pub async fn entities(&self, node: &str) -> Result<Vec<String>, VaultError> {
        let mut found = Vec::new();
        for mount in &self.settings.mounts {
            let accessor = self.mount_accessor(mount).await?;
            let body = json!({ "alias_name": node, "alias_mount_accessor": accessor });
            let answer = self.call(Method::POST, "identity/lookup/entity", Some(&body)).await?;
            let id = answer.as_ref().and_then(|a| a["data"]["id"].as_str());
            found.extend(
                id.filter(|id| !found.iter().any(|known| known == id))
                    .map(str::to_owned),
            );
        }
        Ok(found)
    }

    /// Tokens of a disabled entity are refused, and so are logins.
    pub async fn set_disabled(&self, entity: &str, disabled: bool) -> Result<(), VaultError> {
        let path = format!("identity/entity/id/{entity}");
        self.call(Method::POST, &path, Some(&json!({ "disabled": disabled })))
            .await
            .map(drop)
    }

    /// The entity of the token with this accessor; none when there is no such token or it belongs to no entity.
    pub async fn owner(&self, accessor: &str) -> Result<Option<String>, VaultError> {
        let body = json!({ "accessor": accessor });
        let answer = match self.call(Method::POST, "auth/token/lookup-accessor", Some(&body)).await {
            Err(VaultError::Refused { status: 400 | 404, .. }) => return Ok(None),
            // OpenBao answers 403 with these words for an accessor that it does not know.
            Err(VaultError::Refused { why, .. }) if why.contains("invalid accessor") => return Ok(None),
            other => other?,
        };
        let entity = answer.as_ref().and_then(|a| a["data"]["entity_id"].as_str());
        Ok(entity.filter(|id| !id.is_empty()).map(str::to_owned))
    }

    /// Ends a token and its leases. One that is gone already is as good.
    pub async fn revoke(&self, accessor: &str) -> Result<(), VaultError> {
        let body = json!({ "accessor": accessor });
        match self.call(Method::POST, "auth/token/revoke-accessor", Some(&body)).await {
            Err(VaultError::Refused { status: 400 | 404, .. }) => Ok(()),
            Err(VaultError::Refused { why, .. }) if why.contains("invalid accessor") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn mount_accessor(&self, mount: &str) -> Result<String, VaultError> {
        if let Some(known) = self.mounts.lock().await.get(mount) {
            return Ok(known.clone());
        }
        let path = format!("sys/auth/{mount}");
        let answer = self.call(Method::GET, &path, None).await?.unwrap_or(Value::Null);
        let accessor = [&answer["data"]["accessor"], &answer["accessor"]]
            .into_iter()
            .find_map(Value::as_str)
            .ok_or_else(|| self.malformed(&path, "accessor"))?
            .to_owned();
        self.mounts.lock().await.insert(mount.into(), accessor.clone());
        Ok(accessor)
    }

    /// One call with our token; a token that the vault does not take is had anew once.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, VaultError> {
        let token = self.token().await?;
        match self.send(&method, path, body, Some(&token)).await {
            Err(VaultError::Refused { status: 403, why, .. }) if !why.contains("invalid accessor") => {
                *self.token.lock().await = None;
                let token = self.token().await?;
                self.send(&method, path, body, Some(&token)).await
            }
            other => other,
        }
    }

    async fn token(&self) -> Result<Zeroizing<String>, VaultError> {
        let role = match &self.settings.login {
            Login::Token(path) => {
                let text = Zeroizing::new(file::read_text(path)?);
                return Ok(Zeroizing::new(text.trim_end().to_owned()));
            }
            Login::Role(role) => role,
        };
        let mut kept = self.token.lock().await;
        if let Some((token, _)) = kept.as_ref().filter(|(_, end)| *end > Instant::now()) {
            return Ok(token.clone());
        }
        let mount = self.settings.mounts.first().map_or("jwt", String::as_str);
        let path = format!("auth/{mount}/login");
        let body = json!({ "role": role, "jwt": self.jwt()? });
        let answer = self
            .send(&Method::POST, &path, Some(&body), None)
            .await?
            .unwrap_or(Value::Null);
        let auth = &answer["auth"];
        let token = auth["client_token"]
            .as_str()
            .ok_or_else(|| self.malformed(&path, "client_token"))?;
        let life = Duration::from_secs(auth["lease_duration"].as_u64().unwrap_or(0));
        let token = Zeroizing::new(token.to_owned());
        *kept = Some((token.clone(), Instant::now() + life.saturating_sub(MARGIN)));
        Ok(token)
    }

    /// A JWT about ourselves, by the key that the mount trusts for results. It has no roles, so it opens no node's role; and a
    /// result has another subject, so it does not open ours.
    fn jwt(&self) -> Result<String, VaultError> {
        let now = clock::now();
        let claims = json!({
            "iss": self.issuer, "sub": SUBJECT, "aud": [rempart_attest::api::AUDIENCE_OPENBAO],
            "iat": now, "nbf": now.saturating_sub(5), "exp": now + JWT_LIFE, "jti": hex::encode(*random::<16>()?),
        });
        self.signing
            .sign(&claims)
            .map_err(|_| VaultError::Login(Error::Crypto("no signature over a JWT")))
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<Option<Value>, VaultError> {
        let url = format!("{}/v1/{path}", self.settings.url);
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let mut response = request.send().await.map_err(|error| self.away(&error))?;
        let status = response.status();
        let mut text = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(&error))? {
            if text.len() + chunk.len() > MAX_ANSWER {
                return Err(self.malformed(path, "an end"));
            }
            text.extend_from_slice(&chunk);
        }
        let answer: Option<Value> = serde_json::from_slice(&text).ok();
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => Ok(answer),
            // Sealed, standby or starting: it is away, whatever was asked.
            status if status.is_server_error() => Err(VaultError::Away {
                url: self.settings.url.clone(),
                why: format!("{status} {}", words(answer.as_ref())),
            }),
            status => Err(VaultError::Refused {
                url: self.settings.url.clone(),
                what: format!("{method} {path}"),
                status: status.as_u16(),
                why: words(answer.as_ref()),
            }),
        }
    }

    fn away(&self, error: &reqwest::Error) -> VaultError {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        VaultError::Away {
            url: self.settings.url.clone(),
            why,
        }
    }

    fn malformed(&self, what: &str, missing: &'static str) -> VaultError {
        VaultError::Malformed {
            url: self.settings.url.clone(),
            what: what.into(),
            missing,
        }
    }
}

/// The vault's own words, for the log: printable and short.
fn words(answer: Option<&Value>) -> String {
    let errors = answer
        .and_then(|a| a["errors"].as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text: Vec<&str> = errors.iter().filter_map(Value::as_str).collect();
    text.join("; ").chars().filter(|c| !c.is_control()).take(300).collect()
}
