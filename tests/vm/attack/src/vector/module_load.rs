//! finit_module(2) of a real module (--module, else dummy of the running kernel), removed afterwards.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};
use std::{ffi::CString, fs, os::fd::AsRawFd, path::Path};

pub(super) const VECTOR: Vector = Vector {
    name: "MODULE_LOAD",
    title: "finit_module(2) of a real module (--module, else dummy of the running kernel), removed afterwards",
    source: "finit_module(2)",
    hook: "kernel_read_file",
    scope: Scope::Machine,
    recorded_as: "MODULE_LOAD",
    stopped: true,
    note: "",
    attempt,
};

/// MODULE_INIT_COMPRESSED_FILE
const COMPRESSED: u64 = 4;

/// The module's path: as given, or dummy.
pub(super) fn path(target: &Target) -> Result<String, Failure> {
    if let Some(path) = &target.module {
        return Ok(path.clone());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").step("kernel release")?;
    let stem = format!("/lib/modules/{}/kernel/drivers/net/dummy.ko", release.trim());
    [stem.clone(), format!("{stem}.xz")]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| Failure::other(format!("{stem} is not there; name a module with --module")))
}

/// Removes what was loaded.
pub(super) fn unload(path: &str) -> Result<(), Failure> {
    let file = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = file.split('.').next().unwrap_or_default().replace('-', "_");
    let name = CString::new(name).map_err(|_| Failure::other("a NUL in the module's name"))?;
    sys::call(libc::SYS_delete_module, [name.as_ptr() as u64, 0, 0, 0, 0, 0]).step("delete_module")?;
    Ok(())
}

fn attempt(target: &Target) -> Attempt {
    let path = path(target)?;
    let file = fs::File::open(&path).step("open the module")?;
    let flags = if path.ends_with(".ko") { 0 } else { COMPRESSED };
    let args = [file.as_raw_fd() as u64, c"".as_ptr() as u64, flags, 0, 0, 0];
    sys::call(libc::SYS_finit_module, args).step("finit_module")?;
    unload(&path)?;
    Ok(format!("{path} loaded and removed"))
}
