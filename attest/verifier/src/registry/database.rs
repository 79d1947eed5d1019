//! The small trait that a database must fulfil to hold the registry. The registry's rules are written once, above it, as SQL that
//! both dialects take; a driver only runs statements. It must never decide anything.
//!
//! Adding a database: a new file beside `sqlite.rs` with a `Database` and its schema, one line in `open`, one in `conformance.rs`.

use async_trait::async_trait;

/// Why a database did not do it. The database is to blame.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite failed.
    #[error("the registry failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL failed or is away.
    #[error("the registry failed: {}", postgres_words(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("the registry did not answer in {0} s")]
    Silent(u64),
    /// Another layout of tables.
    #[error(
        "the registry has layout {found}, this release knows {known}: bring all replicas and commands to the same release"
    )]
    Layout {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A thread of ours died.
    #[error("the registry's thread ended")]
    Thread,
}

/// PostgreSQL's own message is in the source, its Display says only which step failed.
fn postgres_words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{error}: {}", db.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// One field. There are no NULL parameters; results of outer joins have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A 64-bit integer.
    Int(i64),
    /// Nothing.
    Null,
}

/// One row of a result.
pub type Row = Vec<Value>;

/// One statement of a transaction.
pub struct Step {
    /// With `$1`, `$2`, … for parameters.
    pub sql: &'static str,
    /// Its parameters.
    pub params: Vec<Value>,
    /// When it changes no row, everything is rolled back.
    pub must: bool,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// Committed.
    All,
    /// Rolled back: a step that must change a row changed none.
    Stopped,
}

/// A database under the registry.
#[async_trait]
pub trait Database: Send + Sync {
    /// Runs one query.
    async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError>;

    /// Runs all steps in one transaction, in order. Rows of `history` get their numbers in the order of the commits.
    async fn write(&self, steps: Vec<Step>) -> Result<Written, DatabaseError>;

    /// Returns when somebody may have written, one second later at the latest.
    async fn changed(&self);
}

impl Step {
    /// A statement that may change nothing.
    pub fn may(sql: &'static str, params: Vec<Value>) -> Self {
        Self {
            sql,
            params,
            must: false,
        }
    }

    /// A statement that must change a row.
    pub fn must(sql: &'static str, params: Vec<Value>) -> Self {
        Self {
            sql,
            params,
            must: true,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<u64> for Value {
    /// Times and counters; no such number of ours comes near 2^63, and one from outside that does is as good as the largest.
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
