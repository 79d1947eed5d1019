//! /proc/PID/task/PID/mem: the same memory by another name.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCMEM_TASK",
    title: "/proc/PID/task/PID/mem: the same memory by another name",
    source: "proc_pid_task(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCMEM_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    common::read_mem(&format!("/proc/{0}/task/{0}/mem", target.pid), addr)
}
