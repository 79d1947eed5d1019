//! move_mount(2) of the file system with the pins.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::ffi::CString;

pub(super) const VECTOR: Vector = Vector {
    name: "MOVE_MOUNT",
    title: "move_mount(2): takes the bpffs with the pins elsewhere",
    source: "move_mount(2)",
    hook: "move_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let (from, to) = (place::file_system(target)?, place::ours()?);
    let at = libc::AT_FDCWD as u64;
    let go = |from: &CString, to: &CString| {
        sys::call(
            libc::SYS_move_mount,
            [at, from.as_ptr() as u64, at, to.as_ptr() as u64, 0, 0],
        )
    };
    go(&from, &to).step("move")?;
    go(&to, &from).step("move back")?;
    Ok("moved and back".into())
}
