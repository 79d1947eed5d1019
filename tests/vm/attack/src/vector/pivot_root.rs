//! pivot_root(2) in the machine's own mount namespace: another tree for everybody.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PIVOT_ROOT",
    title: "pivot_root(2): another root for every process that has the old one",
    source: "pivot_root(2)",
    hook: "sb_pivotroot",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let root = place::ours()?;
    let at = root.as_ptr() as u64;
    let kind = c"tmpfs".as_ptr() as u64;
    sys::call(libc::SYS_mount, [kind, at, kind, 0, 0, 0]).step("mount")?;
    // A new root below a shared mount is refused by the kernel itself, behind the hook.
    let turned = sys::call(libc::SYS_pivot_root, [at, at, 0, 0, 0, 0]).step("pivot_root");
    place::uncover(&root);
    turned.map(|_| "another root".into())
}
