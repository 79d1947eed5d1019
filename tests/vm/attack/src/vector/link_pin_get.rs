//! The link of one of the guard's programs by its pin.

use super::{Scope, Vector, pin_get};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "LINK_PIN_GET",
    title: "bpf(BPF_OBJ_GET) of a pinned link, which could then be detached",
    source: "bpf(2)",
    hook: "inode_permission",
    scope: Scope::Guard,
    recorded_as: "PIN_OPEN",
    stopped: true,
    note: "once armed, the command itself is refused (BPF_LOAD)",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    pin_get::get(&format!("{}/link_ptrace_access", target.pins))
}
