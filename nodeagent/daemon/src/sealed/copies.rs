//! Copies of units' secrets for a vault that is away, also after a reboot: `Offline=sealed:TIME`.
//!
//! A file for each unit; all share a counter. What must not be used any more is made void by incrementing it, since root may have kept
//! the file: the others' copies are sealed to the counter's next value first (`.next`), then it goes on, then they get their names. A
//! power cut in between leaves either the old ones or the new ones good, never both. All of that is done twice: what somebody kept of an
//! attempt that came to nothing was sealed to the first of the two values, and is dead after the second.
//! Must never serve after the vault or the Verifier has said no, and never keep what ends by itself.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use rempart_backend::{BackendError, Fetched};
use rempart_core::{
    audit::What,
    reference::Reference,
    sealed::{self, Entry},
};
use rempart_secret::SecretBytes;

use super::{Draft, NEXT, SEALED, Sealer, Unusable, failed, files, make, read, remove, write};
use crate::{
    audit::Audit,
    clock,
    release::stale::{Meaning, meaning},
};

/// What a power cut can take from the TPM's clock, milliseconds: the longest time between two writings of it (TPM 2.0 Part 1, 36).
const LOST: u64 = 1 << 22;
/// Wait before the TPM is asked again to make copies void.
const AGAIN: Duration = Duration::from_secs(5);

/// The copies in one folder.
pub struct Copies {
    folder: PathBuf,
    sealer: Sealer,
    audit: Arc<Audit>,
    turn: tokio::sync::Mutex<Known>,
    /// Goes on with each no: an answer that was asked for before is not kept after.
    epoch: AtomicU64,
    told: Mutex<BTreeMap<String, Told>>,
}

/// What is known of copies anywhere, those that root may have put aside included. It spares the TPM's NV memory, whose writes are
/// numbered: what is void already is not made void again.
#[derive(Default)]
struct Known {
    /// Whatever an increment that did not come to its end left behind has been looked at.
    recovered: bool,
    /// All are void but those of `live`.
    all_void: bool,
    live: HashSet<String>,
    void: HashSet<String>,
    /// To be made void; until then none is used.
    due: Option<Due>,
}

/// Whose copies are to be made void.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    Of(HashSet<String>),
    All,
}

/// For people.
#[derive(Clone, Copy)]
struct Told {
    /// How old they were.
    age: Duration,
    /// At this time since boot.
    seen: Duration,
    /// The unit's last start was with them.
    used: bool,
}

impl Known {
    fn is_void(&self, unit: &str) -> bool {
        self.void.contains(unit) || (self.all_void && !self.live.contains(unit))
    }

    fn owe(&mut self, unit: &str) {
        match &mut self.due {
            Some(Due::All) => {}
            Some(Due::Of(units)) => {
                units.insert(unit.to_owned());
            }
            due @ None => *due = Some(Due::Of(HashSet::from([unit.to_owned()]))),
        }
    }

    fn paid(&mut self, due: Due) {
        match due {
            Due::All => {
                self.all_void = true;
                self.live.clear();
                self.void.clear();
            }
            Due::Of(units) => {
                for unit in units {
                    self.live.remove(&unit);
                    self.void.insert(unit);
                }
            }
        }
    }
}

impl Copies {
    /// Those in the state folder `state`.
    pub fn new(state: &Path, sealer: Sealer, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self {
            folder: state.join("sealed/units"),
            sealer,
            audit,
            turn: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
            told: Mutex::default(),
        })
    }

    /// To be asked for before the vault is, and handed to [`Self::judge`].
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Whatever was asked for until now is not kept.
    pub fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Looks at what an earlier boot left, for people.
    pub async fn recall(&self) {
        let _turn = self.turn.lock().await;
        let Ok(found) = files(&self.folder, SEALED) else {
            return;
        };
        if found.is_empty() {
            return;
        }
        let Ok(now) = self.sealer.clock().await else {
            return;
        };
        for path in found {
            let header = read(&path).ok().flatten().and_then(|file| sealed::header(&file).ok());
            if let Some((unit, at)) = header.and_then(|header| Some((header.unit?, header.at))) {
                self.tell(&unit, Duration::from_millis(now.saturating_sub(at)), false);
            }
        }
    }

    /// The vault's answer, or the unit's copies in its place: those of at most `most` ago, and how old they are.
    pub async fn judge(
        self: &Arc<Self>,
        unit: &str,
        role: &str,
        wanted: &[Reference],
        most: Option<Duration>,
        since: u64,
        answer: Result<Fetched, BackendError>,
    ) -> Result<(Fetched, Option<Duration>), BackendError> {
        let error = match answer {
            Ok(fetched) => {
                // What has a lease is the service's own, and ends.
                match most.filter(|_| fetched.leases.is_empty()) {
                    Some(life) => {
                        if let Err(error) = self.keep(unit, role, wanted, life, since, &fetched.values).await {
                            tracing::warn!("{unit}: its secrets are not sealed for an outage of the vault: {error}");
                        }
                    }
                    None if self.path(unit).exists() => self.void(unit, "it is not to be kept any more").await,
                    None => {}
                }
                return Ok((fetched, None));
            }
            Err(error) => error,
        };
        match meaning(&error) {
            Meaning::Away => {}
            Meaning::Unknown => return Err(error),
            Meaning::No => {
                self.void(unit, "the vault says no").await;
                return Err(error);
            }
        }
        let Some(most) = most else {
            return Err(error);
        };
        match self.restore(unit, role, wanted, most).await {
            Ok(Some((values, age))) => {
                let leases = Vec::new();
                Ok((Fetched { values, leases }, Some(age)))
            }
            Ok(None) => Err(error),
            Err(why) => {
                tracing::warn!("{unit}: what is sealed for it is of no use: {why}");
                Err(error)
            }
        }
    }

    /// The node was refused: tries until it is done.
    pub async fn void_all(&self, why: &str) {
        self.advance();
        let mut known = self.turn.lock().await;
        let nothing = files(&self.folder, SEALED).is_ok_and(|files| files.is_empty());
        if known.all_void && known.live.is_empty() && nothing {
            return;
        }
        known.due = Some(Due::All);
        self.told_mut().clear();
        loop {
            match self.pay(&mut known).await {
                Ok(true) => return self.record("all", why),
                Ok(false) => return,
                Err(error) => tracing::error!(
                    "what is sealed for outages cannot be made void: {error}; trying again, nothing of it is used until then"
                ),
            }
            drop(known);
            tokio::time::sleep(AGAIN).await;
            known = self.turn.lock().await;
        }
    }

    /// What could start units without the vault, for people.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let now = clock::boottime();
        let told = |(unit, told): (&String, &Told)| {
            let age = told.age + now.saturating_sub(told.seen);
            serde_json::json!({"unit": unit, "age_s": age.as_secs(), "used": told.used, "sealed": true})
        };
        self.told_mut().iter().map(told).collect()
    }

    async fn keep(
        &self,
        unit: &str,
        role: &str,
        wanted: &[Reference],
        life: Duration,
        since: u64,
        values: &[SecretBytes],
    ) -> Result<(), Unusable> {
        let mut known = self.turn.lock().await;
        if self.epoch() != since {
            // Somebody has said no since it was asked for.
            return Ok(());
        }
        self.settle(&mut known).await?;
        make(&self.folder)?;
        let counter = match self.sealer.counter().await? {
            Some(counter) => counter,
            None => self.sealer.increment().await?,
        };
        let at = self.sealer.clock().await?;
        let draft = Draft {
            unit: Some(unit.to_owned()),
            entries: entries(role, wanted),
            counter,
            at,
            deadline: Some(at.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))),
        };
        let file = self.sealer.seal(draft, values).await?;
        known.void.remove(unit);
        known.live.insert(unit.to_owned());
        write(&self.path(unit), &file)?;
        self.tell(unit, Duration::ZERO, false);
        Ok(())
    }

    async fn restore(
        self: &Arc<Self>,
        unit: &str,
        role: &str,
        wanted: &[Reference],
        most: Duration,
    ) -> Result<Option<(Vec<SecretBytes>, Duration)>, Unusable> {
        let mut known = self.turn.lock().await;
        self.settle(&mut known).await?;
        let path = self.path(unit);
        let opened = match self.sealer.open(&path).await {
            Ok(None) => return Ok(None),
            Ok(Some(opened)) => opened,
            Err(error) => {
                if error.is_final() {
                    self.drop_file(unit)?;
                }
                return Err(error);
            }
        };
        let (header, values) = opened;
        let asked = (Some(unit), entries(role, wanted));
        if (header.unit.as_deref(), header.entries) != asked || header.deadline.is_none() {
            drop(known);
            self.void(unit, "the unit asks for something else").await;
            return Ok(None);
        }
        // The TPM has judged the deadline. What is left is a unit whose time was made shorter, and a clock that a power cut set back.
        let age = age(self.sealer.clock().await?, header.at);
        let Some(age) = age.filter(|age| *age <= most) else {
            self.drop_file(unit)?;
            return Err(rempart_device::SealError::Expired.into());
        };
        known.live.insert(unit.to_owned());
        self.tell(unit, age, true);
        Ok(Some((values, age)))
    }

    /// Makes the unit's copies void wherever they are, to the end even if the caller does not wait for it.
    async fn void(self: &Arc<Self>, unit: &str, why: &str) {
        self.advance();
        let (copies, unit, why) = (self.clone(), unit.to_owned(), why.to_owned());
        let work = async move {
            let mut known = copies.turn.lock().await;
            if known.is_void(&unit) && !copies.path(&unit).exists() {
                return;
            }
            known.owe(&unit);
            copies.told_mut().remove(&unit);
            match copies.pay(&mut known).await {
                Ok(true) => copies.record(&unit, &why),
                Ok(false) => {}
                Err(error) => tracing::error!(
                    "{unit}: what is sealed for it cannot be made void: {error}; no copy is used until it can"
                ),
            }
        };
        // A panic in it has been told by the runtime; nothing was made void, which `due` remembers.
        let _ = tokio::spawn(work).await;
    }

    /// What has to be done before any copy is used or made.
    async fn settle(&self, known: &mut Known) -> Result<(), Unusable> {
        if known.due.is_some() {
            self.pay(known).await?;
        } else if !known.recovered {
            self.recover().await?;
            known.recovered = true;
        }
        Ok(())
    }

    /// Makes void what is due, and carries over what is not; whether there can have been anything.
    async fn pay(&self, known: &mut Known) -> Result<bool, Unusable> {
        let Some(due) = known.due.clone() else {
            return Ok(false);
        };
        // Also what an attempt has left that came to nothing: the counter's next value would bring it to life.
        self.recover().await?;
        let doomed: HashSet<PathBuf> = match &due {
            Due::All => files(&self.folder, SEALED)?.into_iter().collect(),
            Due::Of(units) => units.iter().map(|unit| self.path(unit)).collect(),
        };
        let counter = self.sealer.counter().await?;
        let mut now = counter;
        for _ in 0..2 {
            let Some(counter) = now else { break };
            for path in files(&self.folder, SEALED)?
                .iter()
                .filter(|path| !doomed.contains(*path))
            {
                if let Err(error) = self.carry_over(path, counter + 1).await {
                    tracing::warn!("{}: not sealed anew: {error}", path.display());
                }
            }
            now = Some(self.sealer.increment().await?);
            self.recover().await?;
        }
        for path in &doomed {
            remove(path).map_err(failed(path))?;
        }
        known.paid(due);
        (known.due, known.recovered) = (None, true);
        Ok(counter.is_some())
    }

    async fn carry_over(&self, path: &Path, counter: u64) -> Result<(), Unusable> {
        let Some((header, values)) = self.sealer.open(path).await? else {
            return Ok(());
        };
        let draft = Draft {
            unit: header.unit,
            entries: header.entries,
            counter,
            at: header.at,
            deadline: header.deadline,
        };
        let file = self.sealer.seal(draft, &values).await?;
        write(&path.with_extension(NEXT), &file)
    }

    /// Of files that were sealed to the counter's next value: those whose value has come get their names, the others go.
    async fn recover(&self) -> Result<(), Unusable> {
        for path in files(&self.folder, NEXT)? {
            self.sealer.take_over(&path).await?;
        }
        Ok(())
    }

    /// Of a unit's name a file name of fixed length.
    fn path(&self, unit: &str) -> PathBuf {
        let name = hex::encode(digest(&SHA256, unit.as_bytes()));
        self.folder.join(name).with_extension(SEALED)
    }

    fn drop_file(&self, unit: &str) -> Result<(), Unusable> {
        self.told_mut().remove(unit);
        let path = self.path(unit);
        remove(&path).map_err(failed(&path))
    }

    fn record(&self, name: &str, why: &str) {
        tracing::info!("what is sealed for outages is void ({name}): {why}");
        // A failure is logged there; the copies are void.
        let _ = self.audit.record(What::Sealed {
            change: "void".to_owned(),
            name: name.to_owned(),
            reason: why.to_owned(),
        });
    }

    fn tell(&self, unit: &str, age: Duration, used: bool) {
        let seen = clock::boottime();
        self.told_mut().insert(unit.to_owned(), Told { age, seen, used });
    }

    fn told_mut(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        // Single map operations; a panic leaves it whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How old what was had `at` is `now`; `None` when the clock was set back further than a power cut does.
fn age(now: u64, at: u64) -> Option<Duration> {
    let behind = at.saturating_sub(now);
    (behind <= LOST).then(|| Duration::from_millis(now.saturating_sub(at)))
}

fn entries(role: &str, wanted: &[Reference]) -> Vec<Entry> {
    let entry = |reference: &Reference| Entry {
        name: reference.to_string(),
        role: role.to_owned(),
    };
    wanted.iter().map(entry).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
