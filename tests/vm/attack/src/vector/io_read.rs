//! /proc/PID/io, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "IO_READ",
    title: "/proc/PID/io, opened and read",
    source: "proc_pid_io(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "IO_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/io", target.pid))
}
