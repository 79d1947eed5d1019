//! ptrace(PTRACE_ATTACH), then one word of memory by PEEKDATA.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PTRACE_ATTACH",
    title: "ptrace(PTRACE_ATTACH), then one word of memory by PEEKDATA",
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
    sys::call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as u64, pid, 0, 0, 0, 0]).step("ptrace attach")?;
    common::detach(target.pid);
    Ok("attached and detached".into())
}
