//! /proc/PID/oom_score_adj for writing: makes the victim the first to be killed.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "OOM_ADJ",
    title: "/proc/PID/oom_score_adj for writing: makes the victim the first to be killed",
    source: "proc_pid_oom_score_adj(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "OOM_ADJ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::rewrite(&format!("/proc/{}/oom_score_adj", target.pid))
}
