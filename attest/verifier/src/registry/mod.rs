//! What a Verifier remembers: nodes and the TPM that holds each name, latches, policies, sealed secrets, what is still to be revoked,
//! and who did what when (`history`, which only grows). The rules are written once, here; databases are behind a small trait.
//! Attestation writes nothing unless a node drifts.

/// Recent nodes and the policy in force, so that most attestations ask no database.
pub mod cache;
mod database;
mod history;
mod nodes;
mod policies;
mod postgres;
mod revocations;
mod schema;
mod secrets;
mod sqlite;

#[cfg(test)]
mod conformance;

use rempart_attest::Fixed;

pub use database::DatabaseError;
pub use history::{Entry, what};
pub use postgres::Settings as PostgresSettings;
pub use revocations::{PAGE as PENDING_PAGE, Pending};

use crate::config::RegistryKind;
use crate::name::NameError;
use database::{Database, Row, Value};

/// Version of the tables' layout.
const LAYOUT: i64 = 2;

/// Identity of an EK that the operator named: it needs no certificate.
pub const LISTED: &str = "listed";
/// Identity of an EK with a manufacturer's certificate.
pub const CERTIFIED: &str = "certified";
/// Identity of an EK that was the first under its name, where the configuration takes that as enough.
pub const FIRST_USE: &str = "first-use";
/// Identity of an EK that was the first under its name and waits for the operator's word.
pub const PENDING: &str = "pending";

/// A node that may attest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it may have.
    pub roles: Vec<String>,
    /// The TPM that holds the name; none until the node has enrolled.
    pub ek: Option<EnrolledEk>,
    /// Why it is refused until an operator clears it.
    pub latch: Option<Latch>,
    /// Its last attestation, up to half a minute behind.
    pub seen: Option<Seen>,
}

/// The TPM that holds a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledEk {
    /// SHA-256 of its EK's public area.
    pub fingerprint: Fixed<32>,
    /// How it was known: [`CERTIFIED`], [`LISTED`], [`FIRST_USE`], [`PENDING`] or, once the operator said so, `approved`.
    pub identity: String,
    /// When, Unix seconds.
    pub since: u64,
}

/// Drift, held until an operator clears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    /// What was wrong, one line.
    pub reason: String,
    /// When, Unix seconds.
    pub since: u64,
}

/// How the last attestation of a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, Unix seconds.
    pub at: u64,
    /// `affirming` or `refused`.
    pub outcome: String,
}

/// The policy in force, as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The file's bytes.
    pub text: Vec<u8>,
    /// Its armoured signatures: whoever judges by it verifies them first, because the database is not trusted with policies.
    pub signatures: String,
    /// Who signed it, separated by commas.
    pub signers: String,
    /// When it was installed, Unix seconds.
    pub since: u64,
}

/// Who does something, and when; goes into the history.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// An operator's login, a node, or the Verifier itself.
    pub who: &'a str,
    /// Unix seconds.
    pub at: u64,
    /// Whether a vault must be told when a node may or may not log in any more.
    pub vault: bool,
}

/// Why the registry did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
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
    /// There is nothing to approve.
    #[error("node {0} has no TPM with this EK that waits for approval: see rempart-verifier node list")]
    NothingPending(String),
    /// There is nothing to clear.
    #[error("node {0} is not latched")]
    NotLatched(String),
    /// A lower counter than the highest accepted.
    #[error("policy refused: {0}")]
    Rollback(rempart_attest::policy::PolicyError),
    /// Another policy has this counter.
    #[error(
        "policy refused: counter {0} is that of another policy, so nobody could tell which is newer: raise it and sign again"
    )]
    CounterUsed(u64),
    /// No such secret.
    #[error("there is no secret \"{0}\"")]
    UnknownSecret(String),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a Verifier remembers.
pub struct Registry {
    database: Box<dyn Database>,
}

impl Registry {
    /// Opens the database that the configuration names, and makes its tables the first time.
    pub async fn open(kind: &RegistryKind) -> Result<Self, RegistryError> {
        let database: Box<dyn Database> = match kind {
            RegistryKind::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
            RegistryKind::Postgres(settings) => Box::new(postgres::Postgres::open(settings.as_ref().clone()).await?),
        };
        Ok(Self { database })
    }

    /// Returns when somebody may have written, one second later at the latest.
    pub async fn changed(&self) {
        self.database.changed().await;
    }
}

/// Takes the fields of a row apart, in order.
struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    fn of(row: Row) -> Self {
        Self(row.into_iter())
    }

    fn text(&mut self) -> Result<String, RegistryError> {
        self.maybe_text()?.ok_or(RegistryError::Damaged("text"))
    }

    fn maybe_text(&mut self) -> Result<Option<String>, RegistryError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(RegistryError::Damaged("text")),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, RegistryError> {
        self.maybe_bytes()?.ok_or(RegistryError::Damaged("value"))
    }

    fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, RegistryError> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            _ => Err(RegistryError::Damaged("value")),
        }
    }

    fn number(&mut self) -> Result<u64, RegistryError> {
        self.maybe_number()?.ok_or(RegistryError::Damaged("number"))
    }

    fn maybe_number(&mut self) -> Result<Option<u64>, RegistryError> {
        match self.0.next() {
            Some(Value::Int(number)) => u64::try_from(number)
                .map(Some)
                .map_err(|_| RegistryError::Damaged("number")),
            Some(Value::Null) => Ok(None),
            _ => Err(RegistryError::Damaged("number")),
        }
    }
}
