//! move_pages(2) without nodes: asks where the victim's pages lie.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MOVE_PAGES",
    title: "move_pages(2) without nodes: asks where the victim's pages lie",
    source: "move_pages(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "MOVE_PAGES",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let page = target.address().step("find an address")? & !4095;
    let mut status = [0i32; 1];
    let args = [target.pid as u64, 1, &raw const page as u64, 0, status.as_mut_ptr() as u64, 0];
    sys::call(libc::SYS_move_pages, args).step("move_pages")?;
    Ok(format!("node {}", status[0]))
}
