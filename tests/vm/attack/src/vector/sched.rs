//! sched_setscheduler(2): sets the policy of the victim to what it is.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "SCHED",
    title: "sched_setscheduler(2): an idle policy starves",
    source: "sched_setscheduler(2)",
    hook: "task_setscheduler",
    scope: Scope::Process,
    recorded_as: "SCHED",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let policy = sys::call(libc::SYS_sched_getscheduler, [target.pid as u64, 0, 0, 0, 0, 0]).step("read the policy")?;
    let mut param = 0i32;
    let at = &raw mut param as u64;
    sys::call(libc::SYS_sched_getparam, [target.pid as u64, at, 0, 0, 0, 0]).step("read the parameter")?;
    sys::call(libc::SYS_sched_setscheduler, [target.pid as u64, policy, at, 0, 0, 0]).step("set the policy")?;
    Ok(format!("policy {policy} set"))
}
