//! Nodes whose right to log in at the vault changed and whom the vault was not yet told about, and the vault tokens that nodes named.
//! The queue says only *who*: what to tell is what the registry says about the node when the vault is asked.

use std::time::Duration;

use super::database::{Step, Value};
use super::{Act, Fields, Registry, RegistryError};
use crate::clock;

/// Tokens kept for one node: one a role and a few that lapsed. The oldest go first.
const ACCESSORS: u64 = 32;
/// Entries of the queue that are worked off at once.
pub const PAGE: usize = 64;

/// One entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The node.
    pub node: String,
    /// When it was queued, Unix nanoseconds: an entry that was queued again meanwhile is another one.
    pub since: u64,
}

/// Steps that queue a node.
pub(super) fn queue(node: &str, act: &Act<'_>) -> Option<Step> {
    act.vault.then(|| {
        Step::may(
            "INSERT INTO revocation (node, since, due) VALUES ($1, $2, 0) \
             ON CONFLICT (node) DO UPDATE SET since = excluded.since, due = 0",
            vec![node.into(), clock::nanos().into()],
        )
    })
}

/// Steps that queue a node whose name was removed before.
pub(super) fn again(node: &str, act: &Act<'_>) -> Option<Step> {
    act.vault.then(|| {
        Step::may(
            "INSERT INTO revocation (node, since, due) SELECT $1, $2, 0 \
             WHERE EXISTS (SELECT 1 FROM history WHERE node = $1 AND what = 'removed') \
             ON CONFLICT (node) DO UPDATE SET since = excluded.since, due = 0",
            vec![node.into(), clock::nanos().into()],
        )
    })
}

impl Registry {
    /// The entries of the queue that are due, at most [`PAGE`], those first that waited longest.
    pub async fn pending(&self) -> Result<Vec<Pending>, RegistryError> {
        let params = vec![clock::nanos().into(), (PAGE as u64).into()];
        let rows = self
            .database
            .read(
                "SELECT node, since FROM revocation WHERE due <= $1 ORDER BY due, since LIMIT $2",
                params,
            )
            .await?;
        rows.into_iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok(Pending {
                    node: fields.text()?,
                    since: fields.number()?,
                })
            })
            .collect()
    }

    /// Looks at an entry again after a while, and at others first.
    pub async fn postpone(&self, pending: &Pending, by: Duration) -> Result<(), RegistryError> {
        let due = clock::nanos().saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        self.alter(
            "UPDATE revocation SET due = $3 WHERE node = $1 AND since = $2",
            vec![pending.node.as_str().into(), pending.since.into(), due.into()],
        )
        .await
    }

    /// The vault was told. An entry that was queued again since stays.
    pub async fn told(&self, done: &Pending) -> Result<(), RegistryError> {
        self.alter(
            "DELETE FROM revocation WHERE node = $1 AND since = $2",
            vec![done.node.as_str().into(), done.since.into()],
        )
        .await
    }

    /// Keeps a token's accessor until it is revoked.
    pub async fn add_accessor(&self, node: &str, accessor: &str) -> Result<(), RegistryError> {
        let steps = vec![
            Step::may(
                "INSERT INTO accessor (node, accessor, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                vec![node.into(), accessor.into(), clock::nanos().into()],
            ),
            Step::may(
                "DELETE FROM accessor WHERE node = $1 AND accessor NOT IN \
                 (SELECT accessor FROM accessor WHERE node = $1 ORDER BY since DESC LIMIT $2)",
                vec![node.into(), ACCESSORS.into()],
            ),
        ];
        let _all = self.database.write(steps).await?;
        Ok(())
    }

    /// The accessors of a node's tokens.
    pub async fn accessors(&self, node: &str) -> Result<Vec<String>, RegistryError> {
        let rows = self
            .database
            .read(
                "SELECT accessor FROM accessor WHERE node = $1 ORDER BY since",
                vec![node.into()],
            )
            .await?;
        rows.into_iter().map(|row| Fields::of(row).text()).collect()
    }

    /// The token is revoked, or was gone.
    pub async fn forget_accessor(&self, node: &str, accessor: &str) -> Result<(), RegistryError> {
        self.alter(
            "DELETE FROM accessor WHERE node = $1 AND accessor = $2",
            vec![node.into(), accessor.into()],
        )
        .await
    }

    async fn alter(&self, sql: &'static str, params: Vec<Value>) -> Result<(), RegistryError> {
        let _all = self.database.write(vec![Step::may(sql, params)]).await?;
        Ok(())
    }
}
