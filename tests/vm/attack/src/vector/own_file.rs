//! What the vectors on Rempart's own files do the same way. What was done is undone, down to the inode. Not a vector.

use crate::attempt::{Attempt, Failure, Step};
use std::{ffi::CString, io};

/// The agent's configuration: who changes it chooses the agent's vault.
pub(super) const CONFIG: &str = "/etc/rempart/rempart.toml";
/// Its folder.
const FOLDER: &str = "/etc/rempart";
/// A new name beside the folder, on the same file system: a link to a sealed file cannot be removed again.
pub(super) fn beside() -> String {
    format!("/etc/rempart-attack-{}", std::process::id())
}

/// A path as C wants it.
pub(super) fn text(path: &str) -> Result<CString, Failure> {
    CString::new(path).map_err(|_| Failure::other("a NUL in the path"))
}

/// Makes an entry in the folder of the configuration, and removes it again.
pub(super) fn make_and_remove(
    name: &str,
    make: fn(&str) -> io::Result<()>,
    remove: fn(&str) -> io::Result<()>,
) -> Attempt {
    let path = format!("{FOLDER}/{name}");
    make(&path).step("make the entry")?;
    remove(&path).step("remove it")?;
    Ok("made and removed".into())
}
