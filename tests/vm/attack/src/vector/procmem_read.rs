//! /proc/PID/mem, opened and read.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCMEM_READ",
    title: "/proc/PID/mem, opened and read",
    source: "proc_pid_mem(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCMEM_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    common::read_mem(&format!("/proc/{}/mem", target.pid), addr)
}
