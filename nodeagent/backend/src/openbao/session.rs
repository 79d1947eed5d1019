//! Login, renewal and revocation of the token of one role.
//!
//! Must never renew without a result that the Verifier has just given: a token would outlive what it rests on. Follows the
//! HTTP API of OpenBao 2 (auth/jwt, auth/cert, auth/approle, auth/token/renew-self and revoke-self).

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rempart_core::reference::Place;
use rempart_secret::SecretString;
use tokio::time::timeout;
use vaultrs::api::AuthInfo;

use super::{OpenBao, RENEWAL, answer::Answer, approle::Ids, client, engine::Mount, rests::Rests};
use crate::{BackendError, Grant, error::one_line};

/// A token that ends sooner than this is not used any more: a request under way must not outlive it.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// Longest life of a token that is believed.
const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);

/// How the node logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// The Attestation Result, at the JWT auth method on `mount`.
    Jwt {
        /// Where it is mounted.
        mount: String,
    },
    /// The client certificate that came with the result, at the certificate auth method on `mount`.
    Cert {
        /// Where it is mounted.
        mount: String,
    },
    /// Two ids from files, at the AppRole auth method on `mount`.
    AppRole {
        /// Where it is mounted.
        mount: String,
        /// Where the files are: `ROLE.role-id` and `ROLE.secret-id`.
        folder: PathBuf,
    },
}

/// The token of one role. A copy is of the same login.
#[derive(Clone)]
pub(super) struct Session {
    pub token: Arc<SecretString>,
    /// Counts logins: what was leased under one ends with it.
    pub serial: u64,
    /// What is known of the server's engines.
    mounts: Arc<Mutex<Vec<Mount>>>,
    /// Leases that end with it.
    pub rests: Arc<Rests>,
    end: Instant,
    renewable: bool,
}

impl Session {
    fn of(auth: AuthInfo, asked: Instant) -> Self {
        static LOGINS: AtomicU64 = AtomicU64::new(0);
        Self {
            token: Arc::new(SecretString::new(auth.client_token)),
            serial: LOGINS.fetch_add(1, Ordering::Relaxed),
            mounts: Arc::default(),
            rests: Arc::default(),
            end: asked + Duration::from_secs(auth.lease_duration).min(MAX_LEASE),
            renewable: auth.renewable,
        }
    }

    /// Where `place` is mounted, if that is known.
    pub fn mount_of(&self, place: &Place) -> Option<Mount> {
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.iter().find(|mount| mount.holds(place)).cloned()
    }

    /// Remembers a mount.
    pub fn learn(&self, mount: Mount) {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if !mounts.contains(&mount) {
            mounts.push(mount);
        }
    }

    /// Whether a request may still be made with it.
    pub fn usable(&self) -> bool {
        Instant::now() + TOKEN_MARGIN < self.end
    }

    /// How long something lasts that the server gave for `life`: it ends with the token at the latest.
    pub fn lasts(&self, life: Duration) -> Duration {
        life.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// Whether it has to be renewed to live for `horizon`.
    pub fn wants_renewal(&self, horizon: Duration) -> bool {
        self.renewable && self.usable() && self.end < Instant::now() + horizon + TOKEN_MARGIN
    }
}

impl OpenBao {
    /// A token for `role`. One login costs the server several writes; it is made when the first secret of a role is wanted.
    pub(super) async fn log_in(&self, role: &str, grant: &Grant) -> Result<Session, BackendError> {
        grant.demand(role)?;
        let client = self.client(self.http_for(grant)?, None);
        let asked = Instant::now();
        let auth = match &self.login {
            Login::Jwt { mount } => {
                vaultrs::auth::oidc::login(&client.0, mount, grant.ear.expose(), Some(role.to_owned())).await
            }
            Login::Cert { mount } => vaultrs::auth::cert::login(&client.0, mount, role).await,
            Login::AppRole { mount, folder } => {
                let ids = Ids::of(folder, role).map_err(|error| BackendError::NoIds {
                    role: role.to_owned(),
                    why: error.to_string(),
                })?;
                vaultrs::auth::approle::login(&client.0, mount, &ids.role, ids.secret.expose()).await
            }
        };
        let auth = auth.map_err(|error| self.explain_login(error, role))?;
        if let Some(accessors) = &self.accessors {
            accessors.tell(grant, role, auth.accessor.clone());
        }
        Ok(Session::of(auth, asked))
    }

    /// `session`, renewed if it would end within `horizon`; as it was when the server cannot be asked; `None` when the server
    /// says no.
    pub(super) async fn renewed(
        &self,
        session: Session,
        role: &str,
        grant: &Grant,
        horizon: Duration,
    ) -> Option<Session> {
        if !session.wants_renewal(horizon) {
            return Some(session);
        }
        let asked = Instant::now();
        match timeout(RENEWAL, self.renew(&session, grant)).await {
            Ok(Ok(auth)) => {
                tracing::debug!("the token for role {role} is renewed for {} s", auth.lease_duration);
                Some(Session {
                    serial: session.serial,
                    mounts: session.mounts,
                    rests: session.rests,
                    ..Session::of(auth, asked)
                })
            }
            Ok(Err(Answer::Refused {
                status: 400 | 401 | 403 | 404,
                why,
            })) => {
                tracing::info!(
                    "the vault does not renew the token for role {role}: {why}; the next start logs in again"
                );
                self.revoke(&session).await;
                None
            }
            Ok(Err(_)) | Err(_) => Some(session),
        }
    }

    async fn renew(&self, session: &Session, grant: &Grant) -> Result<AuthInfo, Answer> {
        // The certificate auth method demands at each renewal a certificate over the same key.
        let http = self.http_for(grant).map_err(|error| Answer::None(error.to_string()))?;
        let client = self.client(http, Some(&session.token));
        vaultrs::token::renew_self(&client.0, None)
            .await
            .map_err(|error| Answer::of(&error))
    }

    /// Gives the token back; whether it is no more. A token that the server could not be told to revoke ends by itself.
    pub(super) async fn revoke(&self, session: &Session) -> bool {
        let client = self.client(self.http.clone(), Some(&session.token));
        match vaultrs::token::revoke_self(&client.0).await {
            Ok(()) => true,
            Err(error) => Answer::of(&error).is_gone(),
        }
    }

    /// The HTTP client for what the server binds to who we are. One of its own: a connection that another certificate (or
    /// none) was shown on must not be used.
    fn http_for(&self, grant: &Grant) -> Result<reqwest::Client, BackendError> {
        let Login::Cert { .. } = self.login else {
            return Ok(self.http.clone());
        };
        let identity = grant.identity.as_ref().ok_or(BackendError::NoCertificate)?;
        let trust = self
            .trust
            .presenting(identity)
            .map_err(|error| self.misconfigured(&error.to_string()))?;
        client::http(&trust).map_err(|error| self.misconfigured(&error.to_string()))
    }

    fn misconfigured(&self, why: &str) -> BackendError {
        BackendError::Misconfigured {
            server: self.server.clone(),
            why: one_line(why),
        }
    }
}
