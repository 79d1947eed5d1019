//! tgkill(2) with SIGCONT: to one thread.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "TGKILL",
    title: "tgkill(2) with SIGCONT: to one thread",
    source: "tgkill(2)",
    hook: "task_kill",
    scope: Scope::Process,
    recorded_as: "AGENT_KILL",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let pid = target.pid as u64;
    sys::call(libc::SYS_tgkill, [pid, pid, libc::SIGCONT as u64, 0, 0, 0]).step("tgkill")?;
    Ok("SIGCONT delivered".into())
}
