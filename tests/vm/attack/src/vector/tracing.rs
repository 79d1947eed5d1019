//! What the tracing vectors do the same way: a mount of our own, so that no path matters. Not a vector.

use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
};
use std::{
    ffi::{CStr, CString},
    fs,
    io::Write,
};

/// Mounts a file system of this kind at a folder of ours while `work` uses it.
pub(super) fn with_mount(kind: &CStr, work: impl FnOnce(&str) -> Attempt) -> Attempt {
    let place = format!("/tmp/rempart-attack-{}-{}", kind.to_string_lossy(), std::process::id());
    fs::create_dir_all(&place).step("make a folder")?;
    let name = CString::new(place.clone()).map_err(|_| Failure::other("a NUL in the path"))?;
    let kind = kind.as_ptr() as u64;
    let mounted = sys::call(libc::SYS_mount, [kind, name.as_ptr() as u64, kind, 0, 0, 0]).step("mount");
    let done = mounted.and_then(|_| work(&place));
    let _ = sys::call(libc::SYS_umount2, [name.as_ptr() as u64, 0, 0, 0, 0, 0]);
    let _ = fs::remove_dir(&place);
    done
}

/// Defines a probe in a file of tracefs and removes it again.
pub(super) fn define(file: &str, probe: &str, remove: &str) -> Attempt {
    let mut events = fs::OpenOptions::new()
        .append(true)
        .open(file)
        .step(&format!("open {file}"))?;
    events.write_all(probe.as_bytes()).step("define the probe")?;
    events.write_all(remove.as_bytes()).step("remove the probe")?;
    Ok(format!("{probe} defined and removed"))
}
