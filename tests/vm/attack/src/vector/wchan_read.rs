//! /proc/PID/wchan, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "WCHAN_READ",
    title: "/proc/PID/wchan, opened and read",
    source: "proc_pid_wchan(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "WCHAN_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/wchan", target.pid))
}
