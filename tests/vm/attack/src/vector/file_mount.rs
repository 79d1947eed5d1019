//! mount(2) MS_BIND of another file over the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_MOUNT",
    title: "mount(2) MS_BIND of another file over the configuration",
    source: "mount(2)",
    hook: "sb_mount",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let beside = own_file::beside();
    fs::write(&beside, "").step("make a file")?;
    let (ours, theirs) = (own_file::text(&beside)?, own_file::text(own_file::CONFIG)?);
    let args = [ours.as_ptr() as u64, theirs.as_ptr() as u64, 0, libc::MS_BIND, 0, 0];
    let mounted = sys::call(libc::SYS_mount, args).step("bind");
    if mounted.is_ok() {
        sys::call(libc::SYS_umount2, [theirs.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0]).step("unmount")?;
    }
    let _ = fs::remove_file(&beside);
    mounted.map(|_| "covered and uncovered".into())
}
