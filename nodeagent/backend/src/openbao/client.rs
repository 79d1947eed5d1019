//! One conversation with the server by vaultrs, under one token.
//!
//! Must never take its address, CA, proxy or token from the environment.

use std::{marker::PhantomData, time::Duration};

use rempart_secret::SecretString;
use rustify::{Endpoint, clients::reqwest::Client as HttpClient};
use serde::de::DeserializeOwned;
use vaultrs::{
    api::{EndpointMiddleware, EndpointResult},
    client::{VaultClient, VaultClientSettings, VaultClientSettingsBuilder},
};
use zeroize::Zeroize;

use super::{
    answer::Answer,
    engine::{Asked, Question},
};
use crate::https::Trust;

/// Until a server that does not answer at all counts as away.
const CONNECT: Duration = Duration::from_secs(5);
/// One request and its answer.
const EXCHANGE: Duration = Duration::from_secs(30);
/// How long a wrapped answer can be opened. Asked for by us: what the answer says of it, whoever reads along could have written.
pub(super) const WRAPPED: Duration = EXCHANGE;
/// Connections that wait for the next question. A boot asks for some dozens of units at once; what each leaves behind is secret memory.
const IDLE: usize = 4;

/// An HTTP client that trusts as `trust` does, and no connection of any other.
pub(super) fn http(trust: &Trust) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trust.config.as_ref().clone())
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(EXCHANGE)
        .pool_max_idle_per_host(IDLE)
        .build()
}

/// Each value is set: what is not set, vaultrs takes from the environment.
pub(super) fn settings(server: &str) -> Result<VaultClientSettings, String> {
    VaultClientSettingsBuilder::default()
        .address(server)
        .ca_certs(Vec::new())
        .identity(None)
        .timeout(Some(EXCHANGE))
        .token("")
        .verify(true)
        .build()
        .map_err(|error| error.to_string())
}

/// A vaultrs client for one conversation; wipes its copy of the token.
pub(super) struct Client(pub VaultClient);

impl Client {
    /// At `server`, over `http`, under `token` if there is one yet.
    pub fn new(
        server: &str,
        settings: &VaultClientSettings,
        http: reqwest::Client,
        token: Option<&SecretString>,
        namespace: Option<String>,
    ) -> Self {
        let token = token.map(|token| token.expose().clone()).unwrap_or_default();
        let middle = EndpointMiddleware {
            token,
            version: "v1".into(),
            wrap: None,
            namespace,
        };
        Self(VaultClient {
            http: HttpClient::new(server, http),
            middle,
            settings: settings.clone(),
        })
    }
}

impl Client {
    /// The same, whose answers come wrapped.
    pub fn wrapped(&self) -> Self {
        let mut middle = self.0.middle.clone();
        middle.wrap = Some(format!("{}s", WRAPPED.as_secs()));
        Self(VaultClient {
            http: HttpClient::new(&self.0.http.base, self.0.http.http.clone()),
            middle,
            settings: self.0.settings.clone(),
        })
    }

    /// Asks an engine.
    pub async fn ask<T: DeserializeOwned + Send + Sync>(
        &self,
        question: Question,
    ) -> Result<EndpointResult<T>, Answer> {
        let answer = Asked::<T>(question, PhantomData)
            .with_middleware(&self.0.middle)
            .exec(&self.0.http)
            .await;
        let answer = answer.map_err(|error| Answer::of_rest(&error))?;
        // The reader's own words may hold a piece of the secret.
        answer.wrap().map_err(|_| Answer::Malformed)
    }

    /// Says something that has no answer.
    pub async fn tell(&self, question: Question) -> Result<(), Answer> {
        let answer = Asked::<()>(question, PhantomData)
            .with_middleware(&self.0.middle)
            .exec(&self.0.http)
            .await;
        answer.map(drop).map_err(|error| Answer::of_rest(&error))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.middle.token.zeroize();
    }
}
