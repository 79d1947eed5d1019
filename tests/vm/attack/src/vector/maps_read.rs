//! /proc/PID/maps, opened and read.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "MAPS_READ",
    title: "/proc/PID/maps, opened and read",
    source: "proc_pid_maps(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "MAPS_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    common::read_file(&format!("/proc/{}/maps", target.pid))
}
