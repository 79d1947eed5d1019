//! OpenBao and HashiCorp Vault: login by the Attestation Result or by a client certificate, secrets from any engine that gives some.
//!
//! One token a role, kept until the role is no longer granted, the node locks, or the token's own end; renewed only when the
//! Verifier has just said yes again; then revoked. Must never keep a token after a refusal.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rempart_core::{
    config::Origin,
    reference::{Place, Reference},
};
use rempart_secret::{SecretBytes, SecretString};
use vaultrs::{api::EndpointResult, client::VaultClientSettings};

use crate::{
    Accessors, Backend, BackendError, Fetched, Grant, GrantSource, Later, Lease, error::one_line, https::Trust,
    value::decoded,
};
use answer::Answer;
use client::Client;
use engine::{Engine, Fields, Mount, Question, Told};
use session::Session;
use sessions::Sessions;

/// What the server's errors mean.
mod answer;
/// Ids from files.
mod approle;
/// One conversation.
mod client;
/// How each engine is asked.
mod engine;
/// What ends with a login.
mod rests;
/// Login, renewal, revocation.
mod session;
/// The logins that are held.
mod sessions;

pub use session::Login;

/// Renewing one token.
const RENEWAL: Duration = Duration::from_secs(10);

/// An OpenBao server.
pub struct OpenBao {
    server: String,
    login: Login,
    trust: Trust,
    accessors: Option<Accessors>,
    http: reqwest::Client,
    settings: VaultClientSettings,
    namespace: Option<String>,
    wrapping: bool,
    sessions: Sessions,
    /// Leases that are to be ended: of answers that came to nothing, and of units that have ended.
    abandoned: Mutex<Vec<Lease>>,
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
            namespace: None,
            wrapping: false,
            sessions: Sessions::default(),
            abandoned: Mutex::default(),
        })
    }

    /// In this namespace of the server's.
    pub fn in_namespace(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }

    /// Each answer by way of a token that opens it once.
    pub fn by_wrapping(self, wrapping: bool) -> Self {
        Self { wrapping, ..self }
    }

    fn client(&self, http: reqwest::Client, token: Option<&SecretString>) -> Client {
        Client::new(&self.server, &self.settings, http, token, self.namespace.clone())
    }

    /// The values of `wanted`, and what of them is good for a time only.
    async fn read(&self, session: &Session, role: &str, wanted: &[Reference]) -> Result<Fetched, BackendError> {
        let mut taken = Taken(&self.abandoned, Fetched::default());
        self.read_into(&mut taken.1, session, role, wanted).await?;
        Ok(std::mem::take(&mut taken.1))
    }

    async fn read_into(
        &self,
        fetched: &mut Fetched,
        session: &Session,
        role: &str,
        wanted: &[Reference],
    ) -> Result<(), BackendError> {
        let mut read: BTreeMap<&Place, Fields> = BTreeMap::new();
        for reference in wanted {
            let fields = match read.entry(reference.place()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(vacant) => {
                    let (fields, lease) = self.read_place(session, role, reference).await?;
                    fetched.leases.extend(lease);
                    vacant.insert(fields)
                }
            };
            let unfit = |why: &str| BackendError::Unfit {
                server: self.server.clone(),
                reference: reference.to_string(),
                why: why.to_owned(),
            };
            let text = fields.text(reference.field()).ok_or_else(|| self.absent(reference))?;
            let text = text.map_err(|()| unfit("it is neither a text nor a number"))?;
            fetched.values.push(decoded(&self.server, reference, copy(text))?);
        }
        Ok(())
    }

    /// All fields of one place.
    async fn read_place(
        &self,
        session: &Session,
        role: &str,
        reference: &Reference,
    ) -> Result<(Fields, Option<Lease>), BackendError> {
        let place = reference.place();
        let client = self.client(self.http.clone(), Some(&session.token));
        let explain = |answer| self.explain_read(answer, role, reference);
        let mount = match session.mount_of(place) {
            Some(mount) => mount,
            None => {
                let told = client.ask::<Told>(Question::mount(place)).await.map_err(explain)?;
                let mount = told.data.as_ref().and_then(|told| Mount::of(told, place));
                let mount = mount.ok_or_else(|| self.absent(reference))?;
                session.learn(mount.clone());
                mount
            }
        };
        let question = Question::read(&mount, place).ok_or_else(|| BackendError::Unfit {
            server: self.server.clone(),
            reference: reference.to_string(),
            why: format!(
                "the engine at {} gives no secrets there, or not with these parameters",
                mount.path
            ),
        })?;
        let asked = Instant::now();
        let mut asking = mount.engine.leases().then(|| session.rests.ask());
        let mut failed = |answer: &Answer| {
            if let Some(asking) = &mut asking {
                asking.failed(answer);
            }
        };
        let answer = if self.wrapping {
            self.wrapped(&client, question, role, reference, failed).await?
        } else {
            let answer = client.ask::<Fields>(question).await;
            answer.inspect_err(&mut failed).map_err(explain)?
        };
        let fields = answer.data.ok_or_else(|| self.absent(reference))?.of(mount.engine);
        // A certificate has no lease, and an end all the same.
        let expires = fields.number("expiration").filter(|_| mount.engine == Engine::Pki);
        let lease = |id, life| Lease::new(id, role, session.serial, asked, life);
        let lease = match (answer.lease_id, expires) {
            (id, _) if !id.is_empty() => {
                let life = session.lasts(Duration::from_secs(answer.lease_duration.into()));
                Some(lease(Some(id), life).renewable(answer.renewable))
            }
            (_, Some(end)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Some(lease(None, Duration::from_secs(end).saturating_sub(now)))
            }
            _ => None,
        };
        if let Some(asking) = asking {
            asking.answered(lease.as_ref().is_some_and(|lease| lease.id.is_some()));
        }
        Ok((fields, lease))
    }

    /// The same by way of a token that opens the answer once: whoever has opened it on the way is found out.
    async fn wrapped(
        &self,
        client: &Client,
        question: Question,
        role: &str,
        reference: &Reference,
        failed: impl FnMut(&Answer),
    ) -> Result<EndpointResult<Fields>, BackendError> {
        let explain = |answer| self.explain_read(answer, role, reference);
        let asked = Instant::now();
        let wrapped = client
            .wrapped()
            .ask::<serde::de::IgnoredAny>(question)
            .await
            .inspect_err(failed)
            .map_err(explain)?;
        let token = wrapped.wrap_info.ok_or_else(|| explain(Answer::Malformed))?.token;
        let token = SecretString::new(token);
        let opened = self
            .client(self.http.clone(), Some(&token))
            .ask::<Fields>(Question::unwrap())
            .await;
        opened.map_err(|answer| match answer {
            Answer::Refused {
                status: 400 | 403 | 404,
                ..
            } if asked.elapsed() >= client::WRAPPED => BackendError::Late {
                server: self.server.clone(),
                reference: reference.to_string(),
            },
            Answer::Refused {
                status: 400 | 403 | 404,
                why,
            } => BackendError::Opened {
                server: self.server.clone(),
                reference: reference.to_string(),
                why,
            },
            other => explain(other),
        })
    }

    /// Tells the server; an error is to be tried again.
    async fn end_lease(&self, session: &Session, lease: &Lease) -> Result<(), Answer> {
        let client = self.client(self.http.clone(), Some(&session.token));
        let Some(question) = lease.id.as_deref().and_then(Question::revoke) else {
            return Ok(());
        };
        if let Err(why) = client.tell(question).await {
            tracing::debug!("a lease of role {} is not given back: {why}", lease.role);
            // A role that may not revoke has leases that end with the token, or by themselves.
            if !why.is_gone() {
                return Err(why);
            }
        }
        session.rests.given_back();
        Ok(())
    }

    /// The next of those that are to be ended, and the login that it rests on.
    fn next_abandoned(&self) -> Option<(Session, Taken<'_>)> {
        loop {
            let lease = self.abandoned().pop()?;
            // What rests on a login that is no more has ended with it.
            if let Some(session) = self.sessions.of_lease(&lease) {
                let mut turn = Taken(&self.abandoned, Fetched::default());
                turn.1.leases.push(lease);
                return Some((session, turn));
            }
        }
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<Lease>> {
        // Single operations on a list; a panic leaves it whole.
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenBao {
    /// Logs in and reads, while others of the role wait for that login. A session that is already there serves, unless it is `worn`.
    async fn enter(
        &self,
        role: &str,
        wanted: &[Reference],
        grants: &dyn GrantSource,
        worn: Option<u64>,
    ) -> Result<Fetched, BackendError> {
        let turn = self.sessions.turn(role);
        let _turn = turn.lock().await;
        if let Some(session) = self.sessions.of(role).filter(|session| Some(session.serial) != worn) {
            return self.read(&session, role, wanted).await;
        }
        let epoch = self.sessions.epoch();
        let grant = grants.fresh().await.map_err(BackendError::NoGrant)?;
        let session = match self.log_in(role, &grant).await {
            Err(no @ (BackendError::Denied { .. } | BackendError::RoleNotGranted { .. })) => {
                for old in self.sessions.remove_all(role) {
                    self.revoke(&old).await;
                }
                return Err(no);
            }
            session => session?,
        };
        // Held before it is used: nobody may wait for the answer any more, and a login that nobody knows is ended by nobody.
        if let Some(session) = self.sessions.put(role, session.clone(), epoch) {
            self.revoke(&session).await;
            return Err(BackendError::NoGrant("the node was locked meanwhile".into()));
        }
        let fetched = self.read(&session, role, wanted).await;
        if let Err(BackendError::Denied { .. }) = &fetched
            && self.revoke(&session).await
        {
            self.sessions.remove(role, session.serial);
        }
        if self.sessions.epoch() != epoch {
            return Err(BackendError::NoGrant("the node was locked meanwhile".into()));
        }
        fetched
    }
}

impl Backend for OpenBao {
    fn fetch<'a>(
        &'a self,
        role: &'a str,
        wanted: &'a [Reference],
        grants: &'a dyn GrantSource,
    ) -> Later<'a, Result<Fetched, BackendError>> {
        Box::pin(async move {
            let Some(session) = self.sessions.of(role) else {
                return self.enter(role, wanted, grants, None).await;
            };
            match self.read(&session, role, wanted).await {
                // The owner may have revoked the token or changed its policy: a new login tells which.
                Err(BackendError::Denied { .. }) => self.enter(role, wanted, grants, Some(session.serial)).await,
                done => done,
            }
        })
    }

    fn granted<'a>(&'a self, grant: &'a Grant, horizon: Duration) -> Later<'a, ()> {
        Box::pin(async move {
            for (role, session) in self.sessions.all() {
                if !grant.roles.contains(&role) {
                    for old in self.sessions.remove_all(&role) {
                        self.revoke(&old).await;
                    }
                    continue;
                }
                let serial = session.serial;
                match self.renewed(session, &role, grant, horizon).await {
                    Some(kept) => self.sessions.renew(&role, kept),
                    None => self.sessions.remove(&role, serial),
                }
            }
        })
    }

    fn ready<'a>(&'a self, role: &'a str, grants: &'a dyn GrantSource) -> Later<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let session = self.sessions.of(role);
            if let Some(session) = &session {
                let client = self.client(self.http.clone(), Some(&session.token));
                match client.ask::<serde::de::IgnoredAny>(Question::own_token()).await {
                    Ok(_) => return Ok(()),
                    Err(Answer::Refused { status: 401 | 403, .. }) => {}
                    Err(other) => return Err(self.explain(other)),
                }
            }
            // A login, and nothing read.
            let worn = session.map(|session| session.serial);
            self.enter(role, &[], grants, worn).await.map(drop)
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> Later<'a, Result<Lease, BackendError>> {
        Box::pin(async move {
            let ended = || BackendError::LeaseEnded(lease.role.clone());
            let session = self.sessions.of_lease(lease).ok_or_else(ended)?;
            let id = lease.id.as_ref().ok_or_else(ended)?;
            let client = self.client(self.http.clone(), Some(&session.token));
            let question = Question::renew(id).ok_or_else(ended)?;
            let asked = Instant::now();
            match client.ask::<serde::de::IgnoredAny>(question).await {
                Ok(answer) => {
                    let life = session.lasts(Duration::from_secs(answer.lease_duration.into()));
                    let longer = Lease::new(Some(id.clone()), &lease.role, lease.session, asked, life);
                    Ok(longer.renewable(answer.renewable))
                }
                Err(Answer::Refused {
                    status: 400 | 401 | 403 | 404,
                    ..
                }) => Err(ended()),
                Err(other) => Err(self.explain(other)),
            }
        })
    }

    fn is_alive(&self, lease: &Lease) -> bool {
        // What merely expires rests on no login.
        lease.id.is_none() || self.sessions.of_lease(lease).is_some()
    }

    fn end(&self, leases: Vec<Lease>) -> Later<'_, ()> {
        Box::pin(async move {
            // First of all, as the caller may wait no longer than for the first of them.
            self.abandoned().extend(leases);
            // Those that fail are there again when this ends, and hold up no other.
            let mut again = Vec::new();
            while let Some((session, mut turn)) = self.next_abandoned() {
                let Some(lease) = turn.1.leases.first() else { continue };
                match self.end_lease(&session, lease).await {
                    Ok(()) => turn.1.leases.clear(),
                    Err(Answer::None(_)) => return,
                    Err(_) => again.push(turn),
                }
            }
            for (role, session) in self.sessions.done() {
                if self.revoke(&session).await {
                    tracing::debug!("a login of role {role} is given back: an answer under it was lost");
                    self.sessions.remove(&role, session.serial);
                }
            }
        })
    }

    fn forget(&self) -> Later<'_, ()> {
        Box::pin(async move {
            for session in self.sessions.drain() {
                self.revoke(&session).await;
            }
        })
    }
}

/// What an answer has brought so far. Should it come to nothing, also because nobody waits for it any more, its leases are to be ended.
struct Taken<'a>(&'a Mutex<Vec<Lease>>, Fetched);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut abandoned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.append(&mut self.1.leases);
    }
}

fn copy(text: &SecretString) -> SecretBytes {
    let bytes = text.expose().as_bytes();
    SecretBytes::build(bytes.len(), |out| out.copy_from_slice(bytes))
}
