//! What the mount vectors do the same way. The place is the folder of --pins, so that the same attempt can be
//! made where nobody guards it; what was done is undone. Not a vector.

use crate::{
    attempt::{Failure, Step},
    sys,
    target::Target,
};
use std::{ffi::CString, fs, path::Path};

/// Folder of pins, as C wants it.
pub(super) fn pins(target: &Target) -> Result<CString, Failure> {
    text(&target.pins)
}

/// The file system that holds it.
pub(super) fn file_system(target: &Target) -> Result<CString, Failure> {
    let folder = Path::new(&target.pins).parent().and_then(Path::to_str);
    text(folder.ok_or_else(|| Failure::other("nothing above"))?)
}

/// An empty folder of ours.
pub(super) fn ours() -> Result<CString, Failure> {
    let folder = format!("/tmp/rempart-attack-{}", std::process::id());
    fs::create_dir_all(&folder).step("make a folder")?;
    text(&folder)
}

fn text(path: &str) -> Result<CString, Failure> {
    CString::new(path).map_err(|_| Failure::other("a NUL in the path"))
}

/// Takes the uppermost mount there away.
pub(super) fn uncover(place: &CString) {
    let _ = sys::call(
        libc::SYS_umount2,
        [place.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0],
    );
}
