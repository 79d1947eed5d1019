//! mount(2) MS_MOVE of the file system with the pins.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MOUNT_MOVE",
    title: "mount(2) MS_MOVE: takes the bpffs with the pins elsewhere",
    source: "mount(2)",
    hook: "sb_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "refused for every mount of the machine's own namespace: the hook is not told what is moved",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let (from, to) = (place::file_system(target)?, place::ours()?);
    let flags = libc::MS_MOVE;
    sys::call(
        libc::SYS_mount,
        [from.as_ptr() as u64, to.as_ptr() as u64, 0, flags, 0, 0],
    )
    .step("move")?;
    sys::call(
        libc::SYS_mount,
        [to.as_ptr() as u64, from.as_ptr() as u64, 0, flags, 0, 0],
    )
    .step("move back")?;
    Ok("moved and back".into())
}
