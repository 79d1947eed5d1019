//! setpriority(2): sets the nice value of the victim to what it is.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "NICE",
    title: "setpriority(2): the lowest priority starves",
    source: "setpriority(2)",
    hook: "task_setnice",
    scope: Scope::Process,
    recorded_as: "NICE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let whose = [u64::from(libc::PRIO_PROCESS), target.pid as u64, 0, 0, 0, 0];
    // The system call gives 20 minus the value.
    let now = 20 - sys::call(libc::SYS_getpriority, whose).step("read the nice value")? as i64;
    sys::call(libc::SYS_setpriority, [whose[0], whose[1], now as u64, 0, 0, 0]).step("set the nice value")?;
    Ok(format!("nice value {now} set"))
}
