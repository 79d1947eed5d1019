//! /proc/kcore: the kernel's memory as a core file.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "KCORE",
    title: "/proc/kcore: the kernel's memory as a core file",
    source: "proc_kcore(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "KCORE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::read_file("/proc/kcore")
}
