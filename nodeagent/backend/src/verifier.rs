//! The Verifier's own store: secrets leave it only sealed (HPKE) to the key that the attested Evidence committed to.
//!
//! Holds nothing between two requests.

use std::collections::BTreeSet;

use rempart_attest::{
    api::{SECRETS, SecretsRequest, SecretsResponse},
    hpke::{Purpose, Sealed},
    secrets::SecretBundle,
};
use rempart_core::{config::Origin, reference::Reference};
use rempart_secret::SecretBytes;
use zeroize::Zeroize;

use crate::{
    Backend, BackendError, Fetched, Grant, GrantSource, Later,
    error::one_line,
    https::{Connection, HttpsError, Trust},
    value::decoded,
};

/// The store behind `POST /v1/secrets`.
pub struct VerifierStore {
    origin: Origin,
    trust: Trust,
}

impl VerifierStore {
    /// The store of the Verifier at `origin`.
    pub fn new(origin: Origin, trust: Trust) -> Self {
        Self { origin, trust }
    }

    async fn ask(&self, role: &str, wanted: &[Reference], grant: &Grant) -> Result<Fetched, BackendError> {
        // A unit may have one secret under several names.
        let names: Vec<String> = wanted
            .iter()
            .map(Reference::name)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let request = Wiped(SecretsRequest {
            ear: grant.ear.expose().clone(),
            role: role.to_owned(),
            names,
        });
        let exchange = async {
            let mut connection = Connection::open(&self.origin, &self.trust).await?;
            connection.post::<SecretsResponse>(SECRETS, &request.0).await
        };
        let answer = exchange.await;
        let sealed = Sealed::from(answer.map_err(|error| self.explain(error, role, &request.0.names))?);
        drop(request);
        let malformed = |why: &str| BackendError::Misconfigured {
            server: self.origin.url(),
            why: why.to_owned(),
        };
        let plaintext = grant
            .key
            .open(Purpose::Secrets, grant.jti.as_bytes(), &sealed)
            .map_err(|error| malformed(&error.to_string()))?;
        let bundle = SecretBundle::from_cbor(&plaintext).map_err(|error| malformed(&error.to_string()))?;
        let value = |reference: &Reference| match bundle.0.get(&reference.name()) {
            Some(value) => {
                let value = SecretBytes::build(value.len(), |out| out.copy_from_slice(value));
                decoded(&self.origin.url(), reference, value)
            }
            None => Err(BackendError::Absent {
                server: self.origin.url(),
                reference: reference.to_string(),
            }),
        };
        Ok(Fetched {
            values: wanted.iter().map(value).collect::<Result<_, _>>()?,
            leases: Vec::new(),
        })
    }

    fn explain(&self, error: HttpsError, role: &str, names: &[String]) -> BackendError {
        let server = self.origin.url();
        match error {
            HttpsError::Refused {
                status: 404, refusal, ..
            } => BackendError::Absent {
                server,
                reference: match names {
                    [only] => only.clone(),
                    several => format!("among {} ({})", several.join(", "), one_line(&refusal.error)),
                },
            },
            HttpsError::Refused {
                status: 400..=499,
                refusal,
                ..
            } => BackendError::Denied {
                server,
                what: names.join(", "),
                role: role.to_owned(),
                why: one_line(&refusal.error),
            },
            other => BackendError::Unreachable {
                server,
                why: other.to_string(),
            },
        }
    }
}

/// The token in it is wiped, also when the question is given up half way.
struct Wiped(SecretsRequest);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.ear.zeroize();
    }
}

impl Backend for VerifierStore {
    fn fetch<'a>(
        &'a self,
        role: &'a str,
        wanted: &'a [Reference],
        grants: &'a dyn GrantSource,
    ) -> Later<'a, Result<Fetched, BackendError>> {
        Box::pin(async move {
            let grant = grants.fresh().await.map_err(BackendError::NoGrant)?;
            grant.demand(role)?;
            self.ask(role, wanted, &grant).await
        })
    }

    fn ready<'a>(&'a self, role: &'a str, grants: &'a dyn GrantSource) -> Later<'a, Result<(), BackendError>> {
        Box::pin(async move { grants.fresh().await.map_err(BackendError::NoGrant)?.demand(role) })
    }
}
