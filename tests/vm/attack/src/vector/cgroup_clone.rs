//! A child that is born into the victim's cgroup and ends at once.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::{fs::File, os::fd::AsRawFd};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_CLONE",
    title: "clone3(2) with CLONE_INTO_CGROUP: a child is born into the unit, no file is written",
    source: "clone3(2)",
    hook: "inode_permission",
    scope: Scope::Process,
    recorded_as: "CGROUP_MOVE",
    stopped: true,
    note: "",
    attempt,
};

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn attempt(target: &Target) -> Attempt {
    let folder = File::open(cgroup::own_folder_of(target.pid)?).step("open the cgroup")?;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup. No stack: as fork(2).
    let args = [
        CLONE_INTO_CGROUP,
        0,
        0,
        0,
        libc::SIGCHLD as u64,
        0,
        0,
        0,
        0,
        0,
        folder.as_raw_fd() as u64,
    ];
    let child = sys::call(
        libc::SYS_clone3,
        [args.as_ptr() as u64, size_of_val(&args) as u64, 0, 0, 0, 0],
    )
    .step("clone3")?;
    if child == 0 {
        let _ = sys::call(libc::SYS_exit_group, [0; 6]);
    }
    let _ = sys::call(libc::SYS_wait4, [child, 0, 0, 0, 0, 0]);
    Ok(format!("child {child} was born there"))
}
