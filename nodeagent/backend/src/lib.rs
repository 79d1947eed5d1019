//! Where secrets come from: one file for each kind of owner's server, behind one small trait.
//!
//! To add a kind: a new file with a type that implements [`Backend`], and one arm where the daemon builds it from
//! its settings. A backend must never hand out a secret of which the server has not just said yes, must never log a
//! value or a token, and must never take another server's word for it (one pinned CA, no proxy, no redirect).

#![forbid(unsafe_code)]

/// Tokens' accessors, told to the Verifier.
mod accessor;
/// What can go wrong between agent and vault.
mod error;
/// What the Verifier granted, as relying parties need it.
mod grant;
/// HTTPS to one server of the owner's, trusted by one CA.
pub mod https;
/// A client certificate over a key in the TPM.
mod identity;
/// What is given for a time.
mod lease;
/// OpenBao and HashiCorp Vault.
mod openbao;
/// This node's own store.
mod tpm;
/// A value as it is kept, and as it is delivered.
mod value;
/// The Verifier's own store.
mod verifier;

pub use accessor::Accessors;
pub use error::BackendError;
pub use grant::{Grant, GrantError, Words};
pub use identity::{Identity, IdentityError, ResidentKey};
pub use lease::Lease;
pub use openbao::{Login, OpenBao};
pub use tpm::{SealedStore, StoreError, TpmStore, is_sealed_name};
pub use verifier::VerifierStore;

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rempart_core::reference::Reference;
use rempart_secret::SecretBytes;

/// A future that may move between threads.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives an Attestation Result that is good for long enough to be used now; attests again if need be.
pub trait GrantSource: Send + Sync {
    /// The result, or why there is none: one line.
    fn fresh(&self) -> Later<'_, Result<Arc<Grant>, String>>;
}

/// What a backend gives.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The values, in the order of the question.
    pub values: Vec<SecretBytes>,
    /// What of them ends.
    pub leases: Vec<Lease>,
}

/// One place where secrets are kept. What is not said here is of a place that leases nothing and holds no login.
pub trait Backend: Send + Sync {
    /// The values of `wanted`, in that order, read under `role`. Whoever gets leases renews or ends them.
    fn fetch<'a>(
        &'a self,
        role: &'a str,
        wanted: &'a [Reference],
        grants: &'a dyn GrantSource,
    ) -> Later<'a, Result<Fetched, BackendError>>;

    /// A fresh result was granted, and the next one is due in `horizon`: gives up whatever is held for roles that are not
    /// granted any more, and renews what would end before. Nothing is renewed at any other time.
    fn granted<'a>(&'a self, _grant: &'a Grant, _horizon: Duration) -> Later<'a, ()> {
        Box::pin(ready(()))
    }

    /// Whether `role` could be served now, without asking for any secret.
    fn ready<'a>(&'a self, role: &'a str, grants: &'a dyn GrantSource) -> Later<'a, Result<(), BackendError>>;

    /// More time for `lease`, under the login that it was given under.
    fn renew<'a>(&'a self, lease: &'a Lease) -> Later<'a, Result<Lease, BackendError>> {
        Box::pin(ready(Err(BackendError::LeaseEnded(lease.role.clone()))))
    }

    /// Whether `lease` still has the login that it was given under; without asking anybody.
    fn is_alive(&self, _lease: &Lease) -> bool {
        false
    }

    /// Gives these back, and what was asked for by whoever did not wait for it, as far as the server can be reached; the others end with their token or by themselves.
    fn end(&self, _leases: Vec<Lease>) -> Later<'_, ()> {
        Box::pin(ready(()))
    }

    /// Gives up everything: tokens are revoked at the server, and forgotten even when it cannot be reached.
    fn forget(&self) -> Later<'_, ()> {
        Box::pin(ready(()))
    }
}
