//! /proc/PID/syscall, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "SYSCALL_READ",
    title: "/proc/PID/syscall, opened and read",
    source: "proc_pid_syscall(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "SYSCALL_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/syscall", target.pid))
}
