//! /proc/PID/stack, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "STACK_READ",
    title: "/proc/PID/stack, opened and read",
    source: "proc_pid_stack(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "STACK_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/stack", target.pid))
}
