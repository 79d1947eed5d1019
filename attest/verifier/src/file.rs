//! Reading with a limit, and making files that only their owner reads and that never replace another.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::Error;

/// No file that we read is larger, bytes: policies have 1 MiB at most, certificates far less.
const MAX: u64 = 1024 * 1024;

/// The whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::Read {
        path: path.into(),
        source,
    };
    let mut out = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX + 1).read_to_end(&mut out))
        .map_err(fail)?;
    if out.len() as u64 > MAX {
        Err(fail(std::io::Error::other("it is larger than 1 MiB")))
    } else {
        Ok(out)
    }
}

/// The whole file as text.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let not_text = |_| Error::Read {
        path: path.into(),
        source: std::io::Error::other("it is not UTF-8 text"),
    };
    String::from_utf8(read(path)?).map_err(not_text)
}

/// A new file with the given mode; an existing one is an error.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut f| f.write_all(content).and_then(|()| f.sync_all()))
        .map_err(|source| Error::Write {
            path: path.into(),
            source,
        })
}

/// A directory for its owner only, with its parents.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Write {
            path: path.into(),
            source,
        })
}
