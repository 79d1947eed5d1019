//! /proc/kpageflags: what each physical page is.

use super::{common, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "KPAGE",
    title: "/proc/kpageflags: what each physical page is",
    source: "proc_kpageflags(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "KPAGE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::read_file("/proc/kpageflags")
}
