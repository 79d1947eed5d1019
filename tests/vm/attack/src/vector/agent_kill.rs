//! kill(2) with SIGCONT: does nothing to a running process, but is delivered.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "AGENT_KILL",
    title: "kill(2) with SIGCONT: does nothing to a running process, but is delivered",
    source: "kill(2)",
    hook: "task_kill",
    scope: Scope::Process,
    recorded_as: "AGENT_KILL",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    sys::call(libc::SYS_kill, [target.pid as u64, libc::SIGCONT as u64, 0, 0, 0, 0]).step("kill")?;
    Ok("SIGCONT delivered".into())
}
