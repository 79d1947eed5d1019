//! pidfd_send_signal(2) with SIGCONT.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::os::fd::AsRawFd;

pub(super) const VECTOR: Vector = Vector {
    name: "PIDFD_SIGNAL",
    title: "pidfd_send_signal(2) with SIGCONT",
    source: "pidfd_send_signal(2)",
    hook: "task_kill",
    scope: Scope::Process,
    recorded_as: "AGENT_KILL",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let pidfd = sys::pidfd_open(target.pid).step("pidfd_open")?;
    let args = [pidfd.as_raw_fd() as u64, libc::SIGCONT as u64, 0, 0, 0, 0];
    sys::call(libc::SYS_pidfd_send_signal, args).step("pidfd_send_signal")?;
    Ok("SIGCONT delivered".into())
}
