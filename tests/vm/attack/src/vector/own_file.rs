//! What the vectors on Rempart's own files do the same way. What was done is undone, down to the inode. Not a vector.

use crate::attempt::Failure;
use std::ffi::CString;

/// The agent's configuration: who changes it chooses the agent's vault.
pub(super) const CONFIG: &str = "/etc/rempart/rempart.toml";
/// Its folder.
pub(super) const FOLDER: &str = "/etc/rempart";
/// A new name beside the folder, on the same file system: a link to a sealed file cannot be removed again.
pub(super) fn beside() -> String {
    format!("/etc/rempart-attack-{}", std::process::id())
}

/// A path as C wants it.
pub(super) fn text(path: &str) -> Result<CString, Failure> {
    CString::new(path).map_err(|_| Failure::other("a NUL in the path"))
}
