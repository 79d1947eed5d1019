//! get_robust_list(2): an address inside the victim.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "GET_ROBUST_LIST",
    title: "get_robust_list(2): an address inside the victim",
    source: "get_robust_list(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "GET_ROBUST_LIST",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let (mut head, mut length) = (0u64, 0u64);
    let args = [target.pid as u64, &raw mut head as u64, &raw mut length as u64, 0, 0, 0];
    sys::call(libc::SYS_get_robust_list, args).step("get_robust_list")?;
    Ok(format!("list at {head:x}"))
}
