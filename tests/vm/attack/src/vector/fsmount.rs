//! A tmpfs made by fsopen(2) and fsmount(2), put over the pins by move_mount(2).

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::{
    ffi::CString,
    os::fd::{AsRawFd, OwnedFd},
};

pub(super) const VECTOR: Vector = Vector {
    name: "FSMOUNT",
    title: "fsopen(2), fsmount(2), move_mount(2) over the pins' folder: mount(2) is never called",
    source: "fsmount(2)",
    hook: "move_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

/// FSCONFIG_CMD_CREATE
const CREATE: u64 = 6;
/// MOVE_MOUNT_F_EMPTY_PATH
pub(super) const EMPTY_PATH: u64 = 4;

fn attempt(target: &Target) -> Attempt {
    let over = place::pins(target)?;
    let context = sys::call_for_fd(libc::SYS_fsopen, [c"tmpfs".as_ptr() as u64, 0, 0, 0, 0, 0]).step("fsopen")?;
    sys::call(libc::SYS_fsconfig, [context.as_raw_fd() as u64, CREATE, 0, 0, 0, 0]).step("fsconfig")?;
    let mount = sys::call_for_fd(libc::SYS_fsmount, [context.as_raw_fd() as u64, 0, 0, 0, 0, 0]).step("fsmount")?;
    cover(&mount, &over)
}

/// Puts a mount that is nowhere over a place, and takes it away.
pub(super) fn cover(mount: &OwnedFd, over: &CString) -> Attempt {
    let at = libc::AT_FDCWD as u64;
    let args = [
        mount.as_raw_fd() as u64,
        c"".as_ptr() as u64,
        at,
        over.as_ptr() as u64,
        EMPTY_PATH,
        0,
    ];
    sys::call(libc::SYS_move_mount, args).step("move_mount")?;
    place::uncover(over);
    Ok("covered".into())
}
