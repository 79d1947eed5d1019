//! This node's own store: values that `rempart seal set` has sealed to its TPM. No vault; the Verifier still judges the machine.
//!
//! Must never give a value to another role than the one that it was set for, nor under a role that the Verifier, where there is one, does not grant.

use std::sync::Arc;

use rempart_core::reference::{Encoding, Reference};
use rempart_secret::SecretBytes;

use crate::{Backend, BackendError, Fetched, GrantSource, Later, value::decoded};

/// How it is called in messages.
const SERVER: &str = "this node's TPM";

/// Why a store gave nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It has no such value.
    Absent(String),
    /// It has it for another role.
    OtherRole(String),
    /// It cannot be opened, and trying again does not help; one line.
    Unusable(String),
    /// The TPM or the disk did not do it now; one line.
    Failed(String),
}

/// Values by their names.
pub trait SealedStore: Send + Sync {
    /// The values of `names`, in that order, all set for `role`.
    fn read<'a>(&'a self, role: &'a str, names: Vec<String>) -> Later<'a, Result<Vec<SecretBytes>, StoreError>>;
}

/// The store as a vault.
pub struct TpmStore {
    store: Arc<dyn SealedStore>,
    /// A Verifier grants roles.
    judged: bool,
}

impl TpmStore {
    /// Over `store`, for roles that the Verifier grants.
    pub fn new(store: Arc<dyn SealedStore>) -> Self {
        Self { store, judged: true }
    }

    /// The same on a machine without a Verifier, where a role is the unit's own word.
    pub fn alone(store: Arc<dyn SealedStore>) -> Self {
        Self { store, judged: false }
    }

    async fn granted_role(&self, role: &str, grants: &dyn GrantSource) -> Result<(), BackendError> {
        let grant = grants.fresh().await.map_err(BackendError::NoGrant)?;
        match self.judged {
            true => grant.demand(role),
            false => Ok(()),
        }
    }

    async fn read(&self, role: &str, wanted: &[Reference]) -> Result<Fetched, BackendError> {
        let server = || SERVER.to_owned();
        let names = wanted.iter().map(Reference::name).collect();
        let values = self.store.read(role, names).await.map_err(|error| match error {
            StoreError::Absent(reference) => BackendError::Absent {
                server: server(),
                reference,
            },
            StoreError::OtherRole(what) => BackendError::Denied {
                server: server(),
                what,
                role: role.to_owned(),
                why: "it was set for another one, as rempart seal list tells".to_owned(),
            },
            StoreError::Unusable(why) => BackendError::Unfit {
                server: server(),
                reference: wanted.iter().map(Reference::name).collect::<Vec<_>>().join(", "),
                why,
            },
            StoreError::Failed(why) => BackendError::Unreachable { server: server(), why },
        })?;
        let values = wanted.iter().zip(values);
        let decoded = values.map(|(reference, value)| decoded(SERVER, reference, value));
        Ok(Fetched {
            values: decoded.collect::<Result<_, _>>()?,
            leases: Vec::new(),
        })
    }
}

/// Whether `reference` is a name under which a value can be kept.
pub fn is_sealed_name(reference: &Reference) -> bool {
    reference.encoding() == Encoding::Plain && reference.place().parameters().is_empty()
}

impl Backend for TpmStore {
    fn fetch<'a>(
        &'a self,
        role: &'a str,
        wanted: &'a [Reference],
        grants: &'a dyn GrantSource,
    ) -> Later<'a, Result<Fetched, BackendError>> {
        Box::pin(async move {
            self.granted_role(role, grants).await?;
            self.read(role, wanted).await
        })
    }

    fn ready<'a>(&'a self, role: &'a str, grants: &'a dyn GrantSource) -> Later<'a, Result<(), BackendError>> {
        Box::pin(self.granted_role(role, grants))
    }
}
