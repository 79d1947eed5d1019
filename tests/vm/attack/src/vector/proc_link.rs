//! readlink of /proc/PID/exe: tells what runs.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROC_LINK",
    title: "readlink of /proc/PID/exe: tells what runs",
    source: "proc_pid_exe(5)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let link = std::fs::read_link(format!("/proc/{}/exe", target.pid)).step("readlink exe")?;
    Ok(link.display().to_string())
}
