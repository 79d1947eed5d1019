//! A copy of a folder of ours by open_tree(2), put over the file system with the pins.

use super::{Scope, Vector, fsmount, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "OPEN_TREE",
    title: "open_tree(2) OPEN_TREE_CLONE, move_mount(2) over the bpffs: a bind mount without mount(2)",
    source: "open_tree(2)",
    hook: "move_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

/// OPEN_TREE_CLONE
const CLONE: u64 = 1;

fn attempt(target: &Target) -> Attempt {
    let (from, over) = (place::ours()?, place::file_system(target)?);
    let at = libc::AT_FDCWD as u64;
    let copy = sys::call_for_fd(libc::SYS_open_tree, [at, from.as_ptr() as u64, CLONE, 0, 0, 0]).step("open_tree")?;
    fsmount::cover(&copy, &over)
}
