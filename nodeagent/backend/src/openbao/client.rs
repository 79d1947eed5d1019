//! One conversation with the server by vaultrs, under one token.
//!
//! Must never take its address, CA, proxy or token from the environment.

use std::time::Duration;

use rempart_secret::SecretString;
use rustify::clients::reqwest::Client as HttpClient;
use vaultrs::{
    api::EndpointMiddleware,
    client::{VaultClient, VaultClientSettings, VaultClientSettingsBuilder},
};
use zeroize::Zeroize;

use crate::https::Trust;

/// One request and its answer.
const EXCHANGE: Duration = Duration::from_secs(30);

/// An HTTP client that trusts as `trust` does, and no connection of any other.
pub(super) fn http(trust: &Trust) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trust.config.as_ref().clone())
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(EXCHANGE)
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
    ) -> Self {
        let token = token.map(|token| token.expose().clone()).unwrap_or_default();
        let middle = EndpointMiddleware {
            token,
            version: "v1".into(),
            wrap: None,
            namespace: None,
        };
        Self(VaultClient {
            http: HttpClient::new(server, http),
            middle,
            settings: settings.clone(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.middle.token.zeroize();
    }
}
