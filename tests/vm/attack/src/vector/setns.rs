//! setns(2) by pidfd: joins the victim's mount and network name spaces.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::os::fd::AsRawFd;

pub(super) const VECTOR: Vector = Vector {
    name: "SETNS",
    title: "setns(2) by pidfd: joins the victim's mount and network name spaces",
    source: "setns(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "SETNS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let pidfd = sys::pidfd_open(target.pid).step("pidfd_open")?;
    let kinds = (libc::CLONE_NEWNET | libc::CLONE_NEWUTS) as u64;
    sys::call(libc::SYS_setns, [pidfd.as_raw_fd() as u64, kinds, 0, 0, 0, 0]).step("setns")?;
    Ok("joined its network and uts name spaces".into())
}
