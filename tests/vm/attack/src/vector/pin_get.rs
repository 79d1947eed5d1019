//! The guard's configuration map by its pin.

use super::{Scope, Vector, common};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};
use std::ffi::CString;

pub(super) const VECTOR: Vector = Vector {
    name: "PIN_GET",
    title: "bpf(BPF_OBJ_GET) of a pinned map",
    source: "bpf(2)",
    hook: "inode_permission",
    scope: Scope::Guard,
    recorded_as: "PIN_OPEN",
    stopped: true,
    note: "once armed, the command itself is refused (BPF_LOAD)",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    get(&format!("{}/map_config", target.pins))
}

/// A descriptor of what is pinned there.
pub(super) fn get(path: &str) -> Attempt {
    let name = CString::new(path).map_err(|_| Failure::other("a NUL in the path"))?;
    let mut attr: [u8; 16] = common::attr(&[(0, name.as_ptr() as u64, 8)]);
    // BPF_OBJ_GET
    let fd = sys::bpf(7, &mut attr).step("BPF_OBJ_GET")?;
    Ok(format!("{path} is descriptor {fd}"))
}
