//! The owner's values in this node's own store (`rempart seal`, `[vault] kind = "tpm"`): one file with all of them.
//!
//! Each change seals all values to the counter's next value (`.next`), then lets it go on, then gives the file its name, and that twice: a power cut in
//! between leaves the old or the new one good, and an older file that root kept is void, with a value that was replaced or removed in it.
//! Must never put a value into a message or a log.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rempart_backend::{Later, SealedStore, StoreError};
use rempart_core::{
    audit::What,
    sealed::{self, Entry, MAX_ENTRIES},
};
use rempart_secret::SecretBytes;

use super::{Draft, NEXT, SEALED, Sealer, Unusable, failed, make, read, remove, write};
use crate::audit::{Audit, NotRecorded};

/// Why a value was not set, removed or listed.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The file, or the TPM.
    #[error("{0}")]
    Unusable(#[from] Unusable),
    /// There is a store, and it cannot be opened.
    #[error(
        "the values here cannot be opened: {0}; boot as before, or give them up with rempart seal remove --all and set them again"
    )]
    Closed(Unusable),
    /// No such name.
    #[error("there is no value {0}; see rempart seal list")]
    Absent(String),
    /// Too many.
    #[error("there are {MAX_ENTRIES} values already; remove one first")]
    Full,
    /// Somebody else increments the counter.
    #[error(
        "another program counts on in the TPM's counter of these values, so they are void; keep it from the TPM (tpm.exclusive), then: rempart seal remove --all and set them again"
    )]
    Disturbed,
    /// The change cannot be recorded.
    #[error("{0}; nothing is changed without a record of it")]
    Record(#[from] NotRecorded),
}

/// What the TPM says of this boot, by what it keeps.
#[must_use]
pub enum Booted {
    /// The registers are what they were when the values were sealed; the roles that these are for.
    AsRecorded(Vec<String>),
    /// Nothing is sealed.
    Unrecorded,
    /// Another boot chain, or another file; one line.
    Otherwise(String),
    /// The TPM or the disk did not say it now; one line.
    Unknown(String),
}

/// The store.
pub struct Values {
    path: PathBuf,
    sealer: Sealer,
    audit: Arc<Audit>,
    /// One change or reading at a time.
    turn: tokio::sync::Mutex<()>,
}

/// How often a change is sealed anew because somebody else counts on.
const TRIES: u32 = 6;

/// What is in it.
type Content = (Vec<Entry>, Vec<SecretBytes>);

impl Values {
    /// In the state folder `state`.
    pub fn new(state: &Path, sealer: Sealer, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self {
            path: state.join("sealed/values").with_extension(SEALED),
            sealer,
            audit,
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Keeps `value` as `name`, for `role`; what was there under that name is gone.
    pub async fn set(self: &Arc<Self>, name: &str, role: &str, value: SecretBytes) -> Result<(), ValuesError> {
        let entry = Entry {
            name: name.to_owned(),
            role: role.to_owned(),
        };
        self.change("set", name, move |(entries, values)| {
            match entries.iter().position(|known| known.name == entry.name) {
                Some(at) => (entries[at], values[at]) = (entry, value),
                None if entries.len() == MAX_ENTRIES => return Err(ValuesError::Full),
                None => {
                    entries.push(entry);
                    values.push(value);
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes the value `name`.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), ValuesError> {
        let wanted = name.to_owned();
        self.change("removed", name, move |(entries, values)| {
            let known = entries.iter().position(|known| known.name == wanted);
            let at = known.ok_or(ValuesError::Absent(wanted))?;
            entries.remove(at);
            values.remove(at);
            Ok(())
        })
        .await
    }

    /// Removes all, also when they cannot be opened.
    pub async fn remove_all(self: &Arc<Self>) -> Result<(), ValuesError> {
        let store = self.clone();
        to_the_end(async move {
            let _turn = store.turn.lock().await;
            store.record("removed", "all")?;
            if store.sealer.counter().await?.is_some() {
                // Also what was kept of a change that came to nothing, which was sealed to the next value.
                store.sealer.increment().await?;
                store.sealer.increment().await?;
            }
            for path in [store.path.clone(), store.path.with_extension(NEXT)] {
                remove(&path).map_err(failed(&path))?;
            }
            Ok(())
        })
        .await
    }

    /// Whether the machine has booted as when the values were sealed.
    pub async fn booted(&self) -> Booted {
        let _turn = self.turn.lock().await;
        match self.content().await {
            Ok((entries, _)) if entries.is_empty() => Booted::Unrecorded,
            Ok((entries, _)) => {
                let roles: BTreeSet<String> = entries.into_iter().map(|entry| entry.role).collect();
                Booted::AsRecorded(roles.into_iter().collect())
            }
            Err(error) if error.passes() => Booted::Unknown(error.to_string()),
            Err(error) => Booted::Otherwise(ValuesError::Closed(error).to_string()),
        }
    }

    /// Names and roles, and why they cannot be had, if so.
    pub async fn list(&self) -> Result<(Vec<Entry>, Option<String>), ValuesError> {
        let _turn = self.turn.lock().await;
        self.sealer.take_over(&self.path.with_extension(NEXT)).await?;
        match self.sealer.open(&self.path).await {
            Ok(None) => Ok((Vec::new(), None)),
            Ok(Some((header, _))) => Ok((header.entries, None)),
            Err(why) => {
                // What the file says of itself helps who has to set the values again.
                let file = read(&self.path)?.unwrap_or_default();
                let entries = sealed::header(&file).map(|header| header.entries).unwrap_or_default();
                Ok((entries, Some(ValuesError::Closed(why).to_string())))
            }
        }
    }

    /// To the end even if the caller does not wait for it.
    async fn change(
        self: &Arc<Self>,
        change: &'static str,
        name: &str,
        edit: impl FnOnce((&mut Vec<Entry>, &mut Vec<SecretBytes>)) -> Result<(), ValuesError> + Send + 'static,
    ) -> Result<(), ValuesError> {
        let (store, name) = (self.clone(), name.to_owned());
        to_the_end(async move {
            let _turn = store.turn.lock().await;
            let (mut entries, mut values) = store.content().await.map_err(ValuesError::Closed)?;
            edit((&mut entries, &mut values))?;
            make(store.path.parent().unwrap_or(&store.path))?;
            store.record(change, &name)?;
            store.commit(&entries, &values).await
        })
        .await
    }

    /// Twice: what somebody kept of a change that came to nothing was sealed to the first of the two values, and is dead after the second.
    async fn commit(&self, entries: &[Entry], values: &[SecretBytes]) -> Result<(), ValuesError> {
        let next = self.path.with_extension(NEXT);
        let mut counter = match self.sealer.counter().await? {
            Some(counter) => counter,
            None => self.sealer.increment().await?,
        };
        let mut good = 0;
        for _ in 0..TRIES {
            let draft = Draft {
                unit: None,
                entries: entries.to_vec(),
                counter: counter + 1,
                at: self.sealer.clock().await?,
                deadline: None,
            };
            let file = self.sealer.seal(draft, values).await?;
            write(&next, &file)?;
            let reached = self.sealer.increment().await?;
            self.sealer.take_over(&next).await?;
            good = if reached == counter + 1 { good + 1 } else { 0 };
            counter = reached;
            if good == 2 {
                return Ok(());
            }
        }
        Err(ValuesError::Disturbed)
    }

    async fn content(&self) -> Result<Content, Unusable> {
        self.sealer.take_over(&self.path.with_extension(NEXT)).await?;
        let opened = self.sealer.open(&self.path).await?;
        match opened {
            None => Ok((Vec::new(), Vec::new())),
            // A unit's copies in the place of the store.
            Some((header, _)) if header.unit.is_some() => Err(Unusable::Settings),
            Some((header, values)) => Ok((header.entries, values)),
        }
    }

    fn record(&self, change: &str, name: &str) -> Result<(), NotRecorded> {
        self.audit.record(What::Sealed {
            change: change.to_owned(),
            name: name.to_owned(),
            reason: String::new(),
        })
    }
}

/// A change that is given up half way would be made good only by the next one.
async fn to_the_end(work: impl Future<Output = Result<(), ValuesError>> + Send + 'static) -> Result<(), ValuesError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(_) => Err(ValuesError::Unusable(Unusable::Tpm(crate::tpm::JobError::ThreadGone))),
    }
}

impl SealedStore for Values {
    fn read<'a>(&'a self, role: &'a str, names: Vec<String>) -> Later<'a, Result<Vec<SecretBytes>, StoreError>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let (entries, values) = self.content().await.map_err(|error| match error.passes() {
                true => StoreError::Failed(error.to_string()),
                false => StoreError::Unusable(error.to_string()),
            })?;
            let value = |name: String| {
                let Some(at) = entries.iter().position(|entry| entry.name == name) else {
                    return Err(StoreError::Absent(name));
                };
                if entries[at].role != role {
                    return Err(StoreError::OtherRole(name));
                }
                // A unit may have one secret under several names.
                Ok(SecretBytes::build(values[at].len(), |out| {
                    out.copy_from_slice(values[at].expose());
                }))
            };
            names.into_iter().map(value).collect()
        })
    }
}
