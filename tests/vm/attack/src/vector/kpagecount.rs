//! /proc/kpagecount: how often each physical page is mapped.

use super::{Scope, Vector, common};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "KPAGECOUNT",
    title: "/proc/kpagecount: how often each physical page is mapped",
    source: "proc_kpagecount(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "KPAGE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::read_file("/proc/kpagecount")
}
