//! open of /proc/PID/fd/0: a descriptor of our own on the victim's file.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "FD_REOPEN",
    title: "open of /proc/PID/fd/0: a descriptor of our own on the victim's file",
    source: "proc_pid_fd(5)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "FD_REOPEN",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    std::fs::File::open(format!("/proc/{}/fd/0", target.pid)).step("open fd/0")?;
    Ok("opened".into())
}
