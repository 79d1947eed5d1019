//! /proc/PID/fdinfo/0: kind and position of a descriptor.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "FDINFO_READ",
    title: "/proc/PID/fdinfo/0: kind and position of a descriptor",
    source: "proc_pid_fdinfo(5)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PTRACE_OTHER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/fdinfo/0", target.pid))
}
