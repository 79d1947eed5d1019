//! Recent nodes and the policy in force, so that most attestations ask no database. Every change is a row of the history, and that is
//! read as it grows (`follow`), so an entry is dropped as soon as another replica or a command changed it. When the feed was silent
//! for [`BELIEVED`], nothing kept here counts and each question goes to the database: a node that was removed or latched anywhere is
//! refused everywhere within that time, or nobody is answered at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rempart_attest::Fixed;
use rempart_attest::bytes::sha256;
use rempart_attest::policy::signature::{AllowedSigners, PolicySignatureError};
use rempart_attest::policy::{Policy, PolicyError};
use tokio::sync::watch;

use super::{Node, Registry, RegistryError, history, what};

/// How long after the last look at the feed the entries still count.
pub const BELIEVED: Duration = Duration::from_secs(3);
/// Nodes kept, count: some 300 bytes each. A larger fleet asks the database more often, one indexed row each.
const NODES: usize = 65_536;
/// After a failed look at the feed.
const RECOVERY: Duration = Duration::from_millis(200);

/// A parsed policy and the digest of its file.
#[derive(Debug)]
pub struct Active {
    /// SHA-256 of the file.
    pub digest: Fixed<32>,
    /// What it says.
    pub policy: Policy,
}

/// Why there is no policy to judge by.
#[derive(Debug, thiserror::Error)]
pub enum ActiveError {
    /// None was installed.
    #[error("the Verifier has no policy: rempart-verifier policy install FILE")]
    None,
    /// Its signatures do not count: somebody who may write the database is not thereby a signer, and one whose key was taken away from
    /// the allowed signers is not any more.
    #[error("the installed policy does not count: {0}")]
    Signature(#[from] PolicySignatureError),
    /// The stored one does not parse (an older release's format).
    #[error("the installed policy does not count any more: {0}")]
    Policy(#[from] PolicyError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Whose signatures make a policy, and how many of them.
pub struct Trust {
    /// The operator's file.
    pub signers: AllowedSigners,
    /// Different principals, count.
    pub required: usize,
}

/// What was read lately.
pub struct Recent {
    registry: Arc<Registry>,
    trust: Trust,
    kept: Mutex<Kept>,
    /// Digest of the policy in force, for those who wait for another one.
    installed: watch::Sender<Option<Fixed<32>>>,
}

#[derive(Default)]
struct Kept {
    /// Counts what was dropped: an answer that was read before is not kept after.
    generation: u64,
    until: Option<Instant>,
    nodes: HashMap<String, Arc<Node>>,
    policy: Option<Arc<Active>>,
}

impl Recent {
    /// Nothing yet.
    pub fn new(registry: Arc<Registry>, trust: Trust) -> Self {
        Self {
            registry,
            trust,
            kept: Mutex::default(),
            installed: watch::Sender::new(None),
        }
    }

    /// One node, at most [`BELIEVED`] old.
    pub async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, RegistryError> {
        let generation = {
            let kept = self.lock();
            if let Some(node) = kept.nodes.get(name).filter(|_| kept.counts()) {
                return Ok(Some(node.clone()));
            }
            kept.generation
        };
        let Some(node) = self.registry.node(name).await?.map(Arc::new) else {
            return Ok(None);
        };
        let mut kept = self.lock();
        if kept.generation == generation && kept.counts() {
            if kept.nodes.len() >= NODES {
                // Rare and cheap enough; which entries are worth keeping is not worth knowing.
                kept.nodes.clear();
            }
            kept.nodes.insert(name.into(), node.clone());
        }
        Ok(Some(node))
    }

    /// The policy in force, at most [`BELIEVED`] old; parsed once.
    pub async fn policy(&self) -> Result<Arc<Active>, ActiveError> {
        let (generation, last) = {
            let kept = self.lock();
            match &kept.policy {
                Some(active) if kept.counts() => return Ok(active.clone()),
                last => (kept.generation, last.clone()),
            }
        };
        let stored = self.registry.policy().await?.ok_or(ActiveError::None)?;
        let digest = sha256(&stored.text);
        let active = match last.filter(|active| active.digest == digest) {
            Some(active) => active,
            None => {
                let Trust { signers, required } = &self.trust;
                // As of when it was installed: a signature says nothing of its own time, and a policy does not end with its signer.
                signers.verify(&stored.text, &stored.signatures, stored.since, *required)?;
                Arc::new(Active {
                    digest,
                    policy: Policy::parse(&stored.text)?,
                })
            }
        };
        let mut kept = self.lock();
        if kept.generation == generation {
            kept.policy = Some(active.clone());
        }
        Ok(active)
    }

    /// Wakes when another policy came into force.
    pub fn installed(&self) -> watch::Receiver<Option<Fixed<32>>> {
        self.installed.subscribe()
    }

    /// After a write of our own, which the feed will tell only in a moment.
    pub fn forget(&self, name: &str) {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.nodes.remove(name);
    }

    /// Follows the feed until the process ends.
    pub async fn follow(self: Arc<Self>) {
        let mut last = None;
        loop {
            let began = Instant::now();
            match self.look(last).await {
                Ok(newest) => {
                    last = Some(newest);
                    self.lock().until = Some(began + BELIEVED);
                    self.registry.changed().await;
                }
                Err(error) => {
                    tracing::warn!("the registry's changes cannot be read, so every question goes to it: {error}");
                    tokio::time::sleep(RECOVERY).await;
                }
            }
        }
    }

    /// Drops what changed after row `last`; gives the newest row's number.
    async fn look(&self, last: Option<u64>) -> Result<u64, RegistryError> {
        let Some(last) = last else {
            let newest = self.registry.newest().await?;
            self.drop_all();
            self.announce().await;
            return Ok(newest);
        };
        let rows = self.registry.history_after(last, "").await?;
        let Some(newest) = rows.last().map(|row| row.id) else {
            return Ok(last);
        };
        let policy = rows.iter().any(|row| row.what == what::POLICY);
        if rows.len() >= history::PAGE {
            // More than a page: everything is dropped, and the rows up to the newest need not be read.
            return Box::pin(self.look(None)).await;
        }
        {
            let mut kept = self.lock();
            kept.generation += 1;
            for row in &rows {
                kept.nodes.remove(&row.node);
            }
            if policy {
                kept.policy = None;
            }
        }
        if policy {
            self.announce().await;
        }
        Ok(newest)
    }

    fn drop_all(&self) {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.nodes.clear();
        kept.policy = None;
    }

    async fn announce(&self) {
        // One that cannot be read is told by the next attestation.
        if let Ok(active) = self.policy().await {
            self.installed.send_if_modified(|known| {
                let other = *known != Some(active.digest);
                *known = Some(active.digest);
                other
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn counts(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}
