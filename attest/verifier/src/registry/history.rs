//! Who did what when. Rows are only ever added, in the transaction of what they tell; their numbers are the feed by which replicas
//! learn what changed.

use super::database::{Step, Value};
use super::{Act, Fields, Registry, RegistryError};

/// Rows read at once.
pub const PAGE: usize = 1000;

/// What can be done; words for programs.
pub mod what {
    /// A node was added or got other roles.
    pub const ADDED: &str = "added";
    /// A TPM got the node's name.
    pub const ENROLLED: &str = "enrolled";
    /// The operator approved the TPM.
    pub const APPROVED: &str = "approved";
    /// The node drifted.
    pub const LATCHED: &str = "latched";
    /// The operator cleared the latch.
    pub const CLEARED: &str = "cleared";
    /// The node was forgotten.
    pub const REMOVED: &str = "removed";
    /// A policy came into force.
    pub const POLICY: &str = "policy";
    /// A secret was stored.
    pub const SECRET_SET: &str = "secret-set";
    /// A secret was removed.
    pub const SECRET_REMOVED: &str = "secret-removed";
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// Unix seconds.
    pub at: u64,
    /// Who.
    pub who: String,
    /// One of [`what`].
    pub what: String,
    /// The node; empty where it is about none.
    pub node: String,
    /// One line.
    pub detail: String,
}

/// The step that writes one row. It comes first in its transaction: on PostgreSQL it takes the writers' turn, so that what follows
/// sees what the one before committed.
pub(super) fn note(act: &Act<'_>, what: &'static str, node: &str, detail: &str) -> Step {
    let params: Vec<Value> = vec![act.at.into(), act.who.into(), what.into(), node.into(), detail.into()];
    Step::must(
        "INSERT INTO history (at, who, what, node, detail) VALUES ($1, $2, $3, $4, $5)",
        params,
    )
}

impl Registry {
    /// The number of the newest row.
    pub async fn newest(&self) -> Result<u64, RegistryError> {
        let rows = self
            .database
            .read("SELECT COALESCE(max(id), 0) FROM history", vec![])
            .await?;
        let row = rows.into_iter().next().ok_or(RegistryError::Damaged("history"))?;
        Fields::of(row).number()
    }

    /// The next rows after a number, of one node or (with an empty name) of all; at most [`PAGE`].
    pub async fn history_after(&self, id: u64, node: &str) -> Result<Vec<Entry>, RegistryError> {
        const ALL: &str = "SELECT id, at, who, what, node, detail FROM history WHERE id > $1 ORDER BY id LIMIT $2";
        const ONE: &str =
            "SELECT id, at, who, what, node, detail FROM history WHERE id > $1 AND node = $3 ORDER BY id LIMIT $2";
        let mut params: Vec<Value> = vec![id.into(), (PAGE as u64).into()];
        let sql = if node.is_empty() {
            ALL
        } else {
            params.push(node.into());
            ONE
        };
        let rows = self.database.read(sql, params).await?;
        rows.into_iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok(Entry {
                    id: fields.number()?,
                    at: fields.number()?,
                    who: fields.text()?,
                    what: fields.text()?,
                    node: fields.text()?,
                    detail: fields.text()?,
                })
            })
            .collect()
    }
}
