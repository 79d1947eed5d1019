//! Secrets in files that only this node's TPM opens: sealing and opening them, and how they lie on disk.
//!
//! The format is `rempart_core::sealed`, the TPM's part `rempart_device`. Must never open a file that was sealed under other settings than
//! the configured ones, nor give a part of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rempart_attest::Bank;
use rempart_core::sealed::{self, Entry, Header, KEY, SealedError};
use rempart_device::{Bound, SealError, SealedKey, unseal_key};
use rempart_secret::SecretBytes;

use crate::{
    setup::Setup,
    tpm::{JobError, TpmLine},
};

/// Copies of units' secrets.
mod copies;
/// The owner's own values.
mod values;

pub use copies::Copies;
pub use values::{Booted, Values, ValuesError};

/// NV index (of the owner's range, TCG Registry of Reserved TPM 2.0 Handles) of the counter of copies.
pub const COPIES: u32 = 0x0180_5241;
/// The one of the owner's values.
pub const VALUES: u32 = 0x0180_5242;
/// Ending of a file.
const SEALED: &str = "sealed";
/// Ending of a file that counts once the counter has gone on.
const NEXT: &str = "next";

/// Why a file is of no use now, or none was made.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The TPM's word about the key.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The TPM did not do it.
    #[error(transparent)]
    Tpm(#[from] JobError),
    /// The file is no good.
    #[error(transparent)]
    File(#[from] SealedError),
    /// Other registers, another bank or counter.
    #[error("it was sealed under other settings of [tpm]; it is sealed anew once it is had online")]
    Settings,
    /// The disk.
    #[error("{path}: {why}")]
    Io {
        /// Which file.
        path: String,
        /// What the kernel says.
        why: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers; see dmesg")]
    Random,
}

impl Unusable {
    /// Whether the file will never be of use again on this node, whatever it boots.
    fn is_final(&self) -> bool {
        match self {
            Self::Key(SealError::Void | SealError::Expired | SealError::Foreign) | Self::File(_) | Self::Settings => {
                true
            }
            Self::Key(_) | Self::Tpm(_) | Self::Io { .. } | Self::Random => false,
        }
    }

    /// Whether the next try may succeed without anybody's doing.
    fn passes(&self) -> bool {
        matches!(
            self,
            Self::Key(SealError::Refused(_) | SealError::Tpm(_)) | Self::Tpm(_) | Self::Io { .. } | Self::Random
        )
    }
}

/// What is to be sealed.
pub struct Draft {
    /// Whose; `None` for the owner's own values.
    pub unit: Option<String>,
    /// The secrets' names.
    pub entries: Vec<Entry>,
    /// The counter's value with which it counts.
    pub counter: u64,
    /// The TPM's clock when they were had.
    pub at: u64,
    /// Until when, by the same clock.
    pub deadline: Option<u64>,
}

/// Seals to one TPM, one set of registers and one counter.
pub struct Sealer {
    tpm: TpmLine,
    bank: Bank,
    pcrs: Vec<u8>,
    index: u32,
}

impl Sealer {
    /// As `setup` says, with the counter at `index`.
    pub fn new(setup: &Setup, tpm: TpmLine, index: u32) -> Self {
        Self {
            tpm,
            bank: setup.tpm.bank,
            pcrs: setup.settings.tpm.sealed_pcrs.clone(),
            index,
        }
    }

    /// The counter; `None` where nothing was ever sealed.
    pub async fn counter(&self) -> Result<Option<u64>, Unusable> {
        let index = self.index;
        Ok(self.tpm.run(move |tpm| tpm.counter(index)).await?)
    }

    /// Makes void what was sealed so far; gives the counter's new value.
    pub async fn increment(&self) -> Result<u64, Unusable> {
        let index = self.index;
        Ok(self.tpm.run(move |tpm| tpm.increment(index)).await?)
    }

    /// The TPM's clock, milliseconds.
    pub async fn clock(&self) -> Result<u64, Unusable> {
        let now = self.tpm.run(|tpm| tpm.clock_info()).await?;
        Ok(now.clock)
    }

    /// A file with `values`.
    pub async fn seal(&self, draft: Draft, values: &[SecretBytes]) -> Result<Vec<u8>, Unusable> {
        let bound = Bound {
            bank: self.bank,
            pcrs: self.pcrs.clone(),
            index: self.index,
            counter: draft.counter,
            deadline: draft.deadline,
        };
        let mut random = Ok(());
        let key = SecretBytes::build(KEY, |out| random = aws_lc_rs::rand::fill(out));
        random.map_err(|_| Unusable::Random)?;
        let (key, made) = self
            .tpm
            .run(move |tpm| {
                let made = tpm.seal_key(&key, &bound)?;
                Ok((key, made))
            })
            .await?;
        let header = Header {
            unit: draft.unit,
            entries: draft.entries,
            bank: self.bank.to_string(),
            pcrs: self.pcrs.clone(),
            pcr_digest: hex::encode(made.pcr_digest),
            index: self.index,
            counter: draft.counter,
            at: draft.at,
            deadline: draft.deadline,
            public: hex::encode(&made.public),
            private: hex::encode(&made.private),
        };
        Ok(sealed::seal(&header, values, &key)?)
    }

    /// Of the file at `next`, which was sealed to the counter's next value: it gets its name where that value has come, and goes where not.
    pub async fn take_over(&self, next: &Path) -> Result<(), Unusable> {
        let Some(file) = read(next)? else {
            return Ok(());
        };
        let counter = self.counter().await?;
        if sealed::header(&file).is_ok_and(|header| Some(header.counter) == counter) {
            let moved = fs::rename(next, next.with_extension(SEALED)).and_then(|()| settled(next));
            moved.map_err(failed(next))
        } else {
            remove(next).map_err(failed(next))
        }
    }

    /// What the file at `path` holds; `None` when there is none.
    pub async fn open(&self, path: &Path) -> Result<Option<(Header, Vec<SecretBytes>)>, Unusable> {
        let Some(file) = read(path)? else {
            return Ok(None);
        };
        let header = sealed::header(&file)?;
        if (header.bank.as_str(), &header.pcrs, header.index) != (&self.bank.to_string(), &self.pcrs, self.index) {
            return Err(Unusable::Settings);
        }
        let bytes = |text: &str| hex::decode(text).map_err(|_| SealedError::Malformed);
        let made = SealedKey {
            public: bytes(&header.public)?,
            private: bytes(&header.private)?,
            pcr_digest: bytes(&header.pcr_digest)?
                .try_into()
                .map_err(|_| SealedError::Malformed)?,
        };
        let bound = Bound {
            bank: self.bank,
            pcrs: header.pcrs.clone(),
            index: header.index,
            counter: header.counter,
            deadline: header.deadline,
        };
        let key = self
            .tpm
            .run_alone(move |options| unseal_key(options, &made, &bound))
            .await??;
        let values = sealed::open(&file, &key)?;
        Ok(Some((header, values)))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Unusable {
    let path = path.display().to_string();
    move |why| Unusable::Io { path, why }
}

/// A whole file of at most the length that one may have; `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let length = file.metadata().map_err(failed(path))?.len();
    if length > sealed::MAX_FILE as u64 {
        return Err(SealedError::Malformed.into());
    }
    // The length is bounded just above.
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(sealed::MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed(path))?;
    Ok(Some(bytes))
}

/// There whole or not at all, also after a power cut; for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Unusable> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        remove(&beside)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        settled(path)
    };
    written().map_err(failed(path))
}

/// The folder of `path` on disk as it is now.
fn settled(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Gone, or not there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of `folder` with this ending; none when there is no folder.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, Unusable> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder)(error)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(failed(folder))?;
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    Ok(paths)
}

/// The folder, for its owner alone.
fn make(folder: &Path) -> Result<(), Unusable> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed(folder))
}
