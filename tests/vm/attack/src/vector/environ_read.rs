//! /proc/PID/environ, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "ENVIRON_READ",
    title: "/proc/PID/environ, opened and read",
    source: "proc_pid_environ(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "ENVIRON_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/environ", target.pid))
}
