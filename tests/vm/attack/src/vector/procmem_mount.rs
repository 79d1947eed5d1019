//! mem in a procfs that we mount ourselves elsewhere.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCMEM_MOUNT",
    title: "mem in a procfs that we mount ourselves elsewhere",
    source: "proc(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCMEM_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    let folder = format!("/tmp/rempart-attack-proc-{}", std::process::id());
    std::fs::create_dir_all(&folder).step("make a folder")?;
    let place = std::ffi::CString::new(folder.clone()).expect("no NUL in a number");
    let kind = c"proc".as_ptr() as u64;
    sys::call(libc::SYS_mount, [kind, place.as_ptr() as u64, kind, 0, 0, 0]).step("mount procfs")?;
    let attempt = common::read_mem(&format!("{folder}/{}/mem", target.pid), addr);
    let _ = sys::call(libc::SYS_umount2, [place.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0]);
    let _ = std::fs::remove_dir(&folder);
    attempt
}
