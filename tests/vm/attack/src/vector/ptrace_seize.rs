//! ptrace(PTRACE_SEIZE): attaches without stopping the process.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PTRACE_SEIZE",
    title: "ptrace(PTRACE_SEIZE): attaches without stopping the process",
    source: "ptrace(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PTRACE_ATTACH",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let pid = target.pid as u64;
    sys::call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as u64, pid, 0, 0, 0, 0]).step("ptrace seize")?;
    let _ = sys::call(libc::SYS_ptrace, [libc::PTRACE_INTERRUPT as u64, pid, 0, 0, 0, 0]);
    common::detach(target.pid);
    Ok("seized and let go".into())
}
