//! /proc/PID/smaps, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "SMAPS_READ",
    title: "/proc/PID/smaps, opened and read",
    source: "proc_pid_smaps(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "SMAPS_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/smaps", target.pid))
}
