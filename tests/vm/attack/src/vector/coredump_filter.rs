//! /proc/PID/coredump_filter for writing: what a core dump would hold.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "COREDUMP_FILTER",
    title: "/proc/PID/coredump_filter for writing: what a core dump would hold",
    source: "core(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "COREDUMP_FILTER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::rewrite(&format!("/proc/{}/coredump_filter", target.pid))
}
