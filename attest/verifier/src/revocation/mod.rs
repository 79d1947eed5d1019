//! Ending logins at the vault. When a node drifted or was removed, its identity entity is disabled: tokens of a disabled entity are
//! refused at once and so are new logins, and no word of the node is needed. Then its tokens are revoked by their accessors, as far as
//! they are known, which ends their leases too. When an operator cleared the node, the entity is enabled again.
//!
//! The queue is in the registry, so it outlives this process, and any replica works it off. It says only whom to look at: what the
//! vault is told is what the registry says now, and it is looked at again afterwards, so that two replicas never leave the older word.

mod vault;

use std::sync::Arc;
use std::time::Duration;

use rempart_attest::ear;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use vault::VaultError;

use crate::clock;
use crate::config::VaultSettings;
use crate::error::Error;
use crate::keys::SigningKey;
use crate::registry::{PENDING_PAGE, Pending, Registry, RegistryError};
use vault::Vault;

/// How often the queue is looked at for what other replicas and commands put there.
const LOOK: Duration = Duration::from_secs(1);
/// A result given before can still be used for a first login, which makes the entity, for so long.
const FIRST_LOGIN: Duration = Duration::from_secs(ear::LIFE + 10);
/// How soon a node without an entity is looked at again.
const AGAIN: Duration = Duration::from_secs(3);

/// Keeps the vault's view of the nodes as the registry has it.
pub struct Revoker {
    vault: Vault,
    registry: Arc<Registry>,
    queued: Notify,
}

enum Settled {
    Told,
    NotYet,
}

/// Why an accessor is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The token is not this node's, or there is none.
    #[error("the vault knows no token of this node with it")]
    Foreign,
    /// The vault is away.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The registry is.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Revoker {
    /// For the vault of the configuration; nothing is sent yet.
    pub fn new(
        settings: &VaultSettings,
        issuer: &str,
        signing: &SigningKey,
        registry: Arc<Registry>,
    ) -> Result<Self, Error> {
        Ok(Self {
            vault: Vault::new(settings, issuer, signing)?,
            registry,
            queued: Notify::new(),
        })
    }

    /// Something was queued.
    pub fn wake(&self) {
        self.queued.notify_one();
    }

    /// Keeps the accessor of a token that the vault says is this node's.
    pub async fn take(&self, node: &str, accessor: &str) -> Result<(), TakeError> {
        let owner = self.vault.owner(accessor).await?.ok_or(TakeError::Foreign)?;
        let mine = self.vault.entities(node).await?;
        if !mine.contains(&owner) {
            return Err(TakeError::Foreign);
        }
        Ok(self.registry.add_accessor(node, accessor).await?)
    }

    /// Works off what is due, all of a page at once; gives the first failure. What failed is due again in a moment, so that it keeps
    /// nobody else waiting.
    async fn work(self: Arc<Self>) -> Result<(), TakeError> {
        let mut failed = Ok(());
        loop {
            let page = self.registry.pending().await?;
            let full = page.len() == PENDING_PAGE;
            let mut all = JoinSet::new();
            for pending in page {
                let me = self.clone();
                all.spawn(async move {
                    let settled = me.settle(&pending).await;
                    match settled {
                        Ok(Settled::Told) => me.registry.told(&pending).await.map_err(TakeError::from),
                        Ok(Settled::NotYet) => me.registry.postpone(&pending, AGAIN).await.map_err(TakeError::from),
                        Err(error) => me
                            .registry
                            .postpone(&pending, LOOK)
                            .await
                            .map_err(TakeError::from)
                            .and(Err(error)),
                    }
                });
            }
            while let Some(done) = all.join_next().await {
                failed = failed.and(done.unwrap_or(Ok(())));
            }
            if !full || failed.is_err() {
                return failed;
            }
        }
    }

    /// Tells the vault about one node, until what it was told is what is so.
    async fn settle(&self, pending: &Pending) -> Result<Settled, TakeError> {
        let node = &pending.node;
        let mut allowed = self.allowed(node).await?;
        loop {
            let entities = self.vault.entities(node).await?;
            for entity in &entities {
                self.vault.set_disabled(entity, !allowed).await?;
            }
            let accessors = if allowed {
                vec![]
            } else {
                self.registry.accessors(node).await?
            };
            for accessor in &accessors {
                self.vault.revoke(accessor).await?;
                self.registry.forget_accessor(node, accessor).await?;
            }
            let now = self.allowed(node).await?;
            if now == allowed {
                return Ok(told(pending, allowed, entities.len(), accessors.len()));
            }
            allowed = now;
        }
    }

    /// Whether the registry lets the node log in.
    async fn allowed(&self, node: &str) -> Result<bool, RegistryError> {
        Ok(self.registry.node(node).await?.is_some_and(|node| node.latch.is_none()))
    }
}

/// Whether the vault knows now. A node that never logged in has no entity to disable, but could still get one with a result that it was
/// given before: its entry stays until it could not.
fn told(pending: &Pending, allowed: bool, entities: usize, tokens: usize) -> Settled {
    let age = Duration::from_nanos(clock::nanos().saturating_sub(pending.since));
    if !allowed && entities == 0 && age < FIRST_LOGIN {
        return Settled::NotYet;
    }
    let word = if allowed { "may log in" } else { "may not log in" };
    tracing::info!(
        "the vault knows after {} ms that {} {word}: {entities} entities, {tokens} tokens revoked",
        age.as_millis(),
        pending.node
    );
    Settled::Told
}

/// Works the queue off for ever. A vault that is away is asked again each second: what waits is a drifted node that still has tokens.
pub async fn run(revoker: Arc<Revoker>) {
    let mut told = false;
    loop {
        let _woken = timeout(LOOK, revoker.queued.notified()).await;
        match revoker.clone().work().await {
            Ok(()) => told = false,
            Err(error) if !told => {
                tracing::error!("logins of drifted nodes are not stopped yet, trying on: {error}");
                told = true;
            }
            Err(_) => {}
        }
    }
}
