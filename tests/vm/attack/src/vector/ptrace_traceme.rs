//! ptrace(PTRACE_TRACEME) by this process itself, once the file of --after is there: its parent becomes its tracer.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PTRACE_TRACEME",
    title: "ptrace(PTRACE_TRACEME): the protected process is made to ask its parent to trace it",
    source: "ptrace(2)",
    hook: "ptrace_traceme",
    scope: Scope::Process,
    recorded_as: "PTRACE_TRACEME",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    target.wait()?;
    sys::call(libc::SYS_ptrace, [0; 6]).step("PTRACE_TRACEME")?;
    Ok("the parent traces".into())
}
