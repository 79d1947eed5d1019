//! Files that `rempart policy` reads and writes. Nothing is read beyond its named maximum, and a file is replaced whole or not at all.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rempart_attest::{
    Evidence, limits,
    policy::{Instant, Policy},
};
use serde::Serialize;

use crate::failure::Failure;

/// A file that cannot be used, and why.
pub fn fail(path: &Path, why: impl ToString) -> Failure {
    Failure::Input {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

/// At most one byte more than `max`: whoever parses it says the rest.
pub fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max as u64 + 1).read_to_end(&mut content))
        .map_err(|error| fail(path, error))?;
    Ok(content)
}

/// Text of at most `max` bytes.
pub fn read_text(path: &Path, max: usize) -> Result<String, Failure> {
    let content = read(path, max)?;
    if content.len() > max {
        return Err(fail(path, format_args!("it has more than {max} bytes")));
    }
    String::from_utf8(content).map_err(|_| fail(path, "it is not UTF-8"))
}

/// A policy, judged.
pub fn policy(path: &Path) -> Result<Policy, Failure> {
    Policy::parse(&read(path, limits::POLICY)?).map_err(|error| fail(path, error))
}

/// Evidence as CBOR or in its JSON view, told apart by the first byte.
pub fn evidence(path: &Path) -> Result<Evidence, Failure> {
    // The JSON view writes bytes as base64, with indentation.
    let content = read(path, 2 * limits::EVIDENCE)?;
    let cbor = if content.trim_ascii_start().first() == Some(&b'{') {
        let view: Evidence = serde_json::from_slice(&content).map_err(|error| fail(path, error))?;
        view.to_cbor()
    } else {
        content
    };
    // One way in: it judges version and sizes.
    Evidence::from_cbor(&cbor).map_err(|error| fail(path, error))
}

/// Where the signatures of `path` are kept.
pub fn signatures(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Replaces `path` in one step.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| fail(path, error))
}

/// One JSON document on standard output.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Machine(error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// The time given, else this machine's.
pub fn moment(at: Option<Instant>) -> Instant {
    at.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Instant(since.as_secs())
    })
}
