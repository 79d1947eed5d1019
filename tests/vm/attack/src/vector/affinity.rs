//! sched_setaffinity(2): sets the CPUs of the victim to what they are.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "AFFINITY",
    title: "sched_setaffinity(2): takes CPUs away",
    source: "sched_setaffinity(2)",
    hook: "task_setscheduler",
    scope: Scope::Process,
    recorded_as: "SCHED",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let mut mask = [0u64; 16];
    let args = [
        target.pid as u64,
        size_of_val(&mask) as u64,
        mask.as_mut_ptr() as u64,
        0,
        0,
        0,
    ];
    sys::call(libc::SYS_sched_getaffinity, args).step("read the mask")?;
    sys::call(libc::SYS_sched_setaffinity, args).step("set the mask")?;
    Ok(format!("mask {:x} set", mask[0]))
}
