//! /proc/sysrq-trigger: asks for the help text only. Others of its letters kill, sync, dump registers and crash.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "SYSRQ",
    title: "/proc/sysrq-trigger: dumps registers, kills, crashes",
    source: "proc_sysrq-trigger(5)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "SYSRQ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    std::fs::write("/proc/sysrq-trigger", "h").step("write sysrq-trigger")?;
    Ok("written".into())
}
