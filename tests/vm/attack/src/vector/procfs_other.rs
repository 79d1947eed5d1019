//! /proc/PID/personality: a file that no rule of ours names, so that the next kernel's files are closed too.

use super::{Scope, Vector, common};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCFS_OTHER",
    title: "/proc/PID/personality: a file that no rule of ours names, so that the next kernel's files are closed too",
    source: "proc(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCFS_OTHER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/personality", target.pid))
}
