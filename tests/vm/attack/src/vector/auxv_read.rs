//! /proc/PID/auxv, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "AUXV_READ",
    title: "/proc/PID/auxv, opened and read",
    source: "proc_pid_auxv(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "AUXV_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/auxv", target.pid))
}
