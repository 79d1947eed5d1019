//! kcmp(2): learns which kernel objects the victim shares with us.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "KCMP",
    title: "kcmp(2): learns which kernel objects the victim shares with us",
    source: "kcmp(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "KCMP",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let own = u64::from(std::process::id());
    // KCMP_VM
    let order = sys::call(libc::SYS_kcmp, [own, target.pid as u64, 1, 0, 0, 0]).step("kcmp")?;
    Ok(format!("order {order}"))
}
