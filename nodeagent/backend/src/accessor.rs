//! Tells the Verifier the accessor of each token, so that it can revoke the token when it takes the node's result back:
//! an accessor names a token, and gives nobody its use.
//!
//! Best effort: a Verifier that does not hear of a token can still disable the node's identity at the vault. Must never delay
//! or fail a release, and must never carry the token itself.

use rempart_attest::api::{ACCESSOR, AccessorRequest, AccessorResponse};
use rempart_core::config::Origin;
use zeroize::Zeroize;

use crate::{
    Grant,
    https::{Connection, Trust},
};

/// The Verifier, as the receiver of accessors.
#[derive(Clone)]
pub struct Accessors {
    origin: Origin,
    trust: Trust,
}

impl Accessors {
    /// The Verifier at `origin`.
    pub fn new(origin: Origin, trust: Trust) -> Self {
        Self { origin, trust }
    }

    /// Tells it that `accessor` names a token that was given for `grant` under `role`. Returns at once.
    pub(crate) fn tell(&self, grant: &Grant, role: &str, accessor: String) {
        let told = Wiped(AccessorRequest {
            ear: grant.ear.expose().clone(),
            accessor,
            role: role.to_owned(),
        });
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = async {
                let mut connection = Connection::open(&this.origin, &this.trust).await?;
                connection.post::<AccessorResponse>(ACCESSOR, &told.0).await
            };
            match outcome.await {
                Ok(_) => tracing::debug!("the Verifier knows the accessor of the token for role {}", told.0.role),
                Err(error) => tracing::debug!(
                    "the Verifier does not know the accessor of the token for role {}: {error}",
                    told.0.role
                ),
            }
        });
    }
}

/// The result in it is wiped, also when the task is given up half way.
struct Wiped(AccessorRequest);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.ear.zeroize();
    }
}
