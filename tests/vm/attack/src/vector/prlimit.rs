//! prlimit(2): sets the victim's core limit to what it is. A raised one brings core dumps back.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PRLIMIT",
    title: "prlimit(2): a raised core limit brings core dumps back",
    source: "prlimit(2)",
    hook: "task_setrlimit",
    scope: Scope::Process,
    recorded_as: "PRLIMIT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let mut limit = [0u64; 2];
    let core = u64::from(libc::RLIMIT_CORE);
    let args = [target.pid as u64, core, 0, limit.as_mut_ptr() as u64, 0, 0];
    sys::call(libc::SYS_prlimit64, args).step("read the limit")?;
    let args = [target.pid as u64, core, limit.as_ptr() as u64, 0, 0, 0];
    sys::call(libc::SYS_prlimit64, args).step("set the limit")?;
    Ok(format!("core limit set to {}", limit[0]))
}
