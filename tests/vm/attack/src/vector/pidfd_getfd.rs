//! pidfd_getfd(2): steals the victim's descriptor 0.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::os::fd::AsRawFd;

pub(super) const VECTOR: Vector = Vector {
    name: "PIDFD_GETFD",
    title: "pidfd_getfd(2): steals the victim's descriptor 0",
    source: "pidfd_getfd(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PIDFD_GETFD",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let pidfd = sys::pidfd_open(target.pid).step("pidfd_open")?;
    let args = [pidfd.as_raw_fd() as u64, 0, 0, 0, 0, 0];
    let stolen = sys::call_for_fd(libc::SYS_pidfd_getfd, args).step("pidfd_getfd")?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", stolen.as_raw_fd())).step("readlink")?;
    Ok(format!("its descriptor 0: {}", link.display()))
}
