//! What a Verifier remembers, behind one small trait: nodes and the TPM that holds each name, the active policy and the highest
//! counter, sealed secrets. Appraisal only reads. Another database is another file here and one line in `open`.

mod sqlite;

use std::path::Path;

use rempart_attest::Fixed;

pub use sqlite::Sqlite;

use crate::name::NameError;

/// Identity of an EK that the operator named: it needs no certificate.
pub const LISTED: &str = "listed";

/// A node that may attest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it may have.
    pub roles: Vec<String>,
    /// The TPM that holds the name; none until the node has enrolled.
    pub ek: Option<EnrolledEk>,
}

/// The TPM that holds a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledEk {
    /// SHA-256 of its EK's public area.
    pub fingerprint: Fixed<32>,
    /// How it was known: `certified`, `first-use` or [`LISTED`].
    pub identity: String,
    /// When, Unix seconds.
    pub since: u64,
}

/// The policy in force, as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The file's bytes.
    pub text: Vec<u8>,
    /// Who signed it.
    pub signer: String,
    /// When it was installed, Unix seconds.
    pub since: u64,
}

/// Why the registry did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database failed.
    #[error("the registry failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// Something in it is not what we wrote.
    #[error("the registry holds a damaged {0}: restore it from the backup")]
    Damaged(&'static str),
    /// No such node.
    #[error("node {0} is not known: rempart-verifier node add {0} --role ROLE")]
    UnknownNode(String),
    /// Another TPM holds the name.
    #[error(
        "the name {node} is held by another TPM (EK {holder}): if the machine was replaced, rempart-verifier node rm {node} and add it again"
    )]
    NameTaken {
        /// The name.
        node: String,
        /// Fingerprint of the holder.
        holder: Fixed<32>,
    },
    /// A lower counter than the highest accepted.
    #[error("policy refused: {0}")]
    Rollback(rempart_attest::policy::PolicyError),
    /// No such secret.
    #[error("there is no secret \"{0}\"")]
    UnknownSecret(String),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a Verifier remembers.
pub trait Registry: Send + Sync {
    /// One node.
    fn node(&self, name: &str) -> Result<Option<Node>, RegistryError>;
    /// All nodes by name.
    fn nodes(&self) -> Result<Vec<Node>, RegistryError>;
    /// Lets a node enrol; one that is there gets exactly these roles and keeps its TPM.
    fn add_node(&self, name: &str, roles: &[String]) -> Result<(), RegistryError>;
    /// Forgets a node and its TPM.
    fn remove_node(&self, name: &str) -> Result<(), RegistryError>;
    /// Gives the name to a TPM. The first one keeps it: another one is refused, whoever comes when.
    fn bind_ek(&self, name: &str, ek: &EnrolledEk) -> Result<(), RegistryError>;
    /// The policy in force.
    fn policy(&self) -> Result<Option<StoredPolicy>, RegistryError>;
    /// Makes a policy the one in force, unless its counter is below the highest that ever was.
    fn install_policy(&self, policy: &StoredPolicy, counter: u64) -> Result<(), RegistryError>;
    /// Stores one sealed value for each role and removes it from all others.
    fn set_secret(&self, name: &str, sealed: &[(String, Vec<u8>)]) -> Result<(), RegistryError>;
    /// The sealed value for a role.
    fn secret(&self, name: &str, role: &str) -> Result<Option<Vec<u8>>, RegistryError>;
    /// Names and roles.
    fn secrets(&self) -> Result<Vec<(String, String)>, RegistryError>;
    /// Removes a secret for all roles.
    fn remove_secret(&self, name: &str) -> Result<(), RegistryError>;
}

/// The registry in a state directory.
pub fn open(state_dir: &Path) -> Result<Box<dyn Registry>, RegistryError> {
    Ok(Box::new(Sqlite::open(&state_dir.join("registry.sqlite"))?))
}
