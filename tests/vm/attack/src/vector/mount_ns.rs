//! mount(2) over the bpffs in a mount namespace of our own, whose mounts are shared with all.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MOUNT_NS",
    title: "mount(2) over the bpffs from another mount namespace: travels back through a shared mount",
    source: "mount_namespaces(7)",
    hook: "sb_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let over = place::file_system(target)?;
    sys::call(libc::SYS_unshare, [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0]).step("unshare")?;
    let kind = c"tmpfs".as_ptr() as u64;
    sys::call(libc::SYS_mount, [kind, over.as_ptr() as u64, kind, 0, 0, 0]).step("mount")?;
    place::uncover(&over);
    Ok("covered".into())
}
