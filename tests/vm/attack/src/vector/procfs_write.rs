//! /proc/PID/clear_refs for writing: forgets which pages were used, and smaps then tells which are.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCFS_WRITE",
    title: "/proc/PID/clear_refs for writing: forgets which pages were used, and smaps then tells which are",
    source: "proc_pid_clear_refs(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCFS_WRITE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let path = format!("/proc/{}/clear_refs", target.pid);
    std::fs::write(&path, "1").step(&format!("write {path}"))?;
    Ok(format!("wrote {path}"))
}
