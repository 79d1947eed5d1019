//! /proc/sys/kernel/modprobe for writing: which program the kernel starts as root to load a module.

use super::{Scope, Vector, common};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "MODPROBE_PATH",
    title: "/proc/sys/kernel/modprobe for writing: which program the kernel itself starts",
    source: "proc_sys_kernel(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "MODPROBE_PATH",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    common::rewrite("/proc/sys/kernel/modprobe")
}
