//! ioprio_set(2): sets the class of the victim to what it is.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "IO_PRIO",
    title: "ioprio_set(2): the idle class starves",
    source: "ioprio_set(2)",
    hook: "task_setioprio",
    scope: Scope::Process,
    recorded_as: "IO_PRIO",
    stopped: true,
    note: "",
    attempt,
};

/// IOPRIO_WHO_PROCESS
const WHO: u64 = 1;
/// IOPRIO_CLASS_BE, level 4: what a process has that was given none.
const DEFAULT: u64 = 2 << 13 | 4;

fn attempt(target: &Target) -> Attempt {
    sys::call(libc::SYS_ioprio_set, [WHO, target.pid as u64, DEFAULT, 0, 0, 0]).step("ioprio_set")?;
    Ok("set".into())
}
