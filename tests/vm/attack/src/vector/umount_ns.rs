//! Unmounts the bpffs in a mount namespace of our own, whose mounts are shared with all.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "UMOUNT_NS",
    title: "umount2(2) from another mount namespace: travels back through a shared mount",
    source: "umount2(2)",
    hook: "sb_umount",
    scope: Scope::Guard,
    recorded_as: "BPFFS_UMOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let place = place::file_system(target)?;
    sys::call(libc::SYS_unshare, [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0]).step("unshare")?;
    sys::call(
        libc::SYS_umount2,
        [place.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0],
    )
    .step("umount")?;
    Ok("unmounted".into())
}
