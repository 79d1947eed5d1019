//! /proc/sys/kernel/core_pattern for writing: who receives core dumps.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "CORE_PATTERN",
    title: "/proc/sys/kernel/core_pattern for writing: who receives core dumps",
    source: "core(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "CORE_PATTERN",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::rewrite("/proc/sys/kernel/core_pattern")
}
