//! /proc/kallsyms: the kernel's addresses.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "KALLSYMS",
    title: "/proc/kallsyms: the kernel's addresses",
    source: "proc_kallsyms(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "KALLSYMS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::read_file("/proc/kallsyms")
}
