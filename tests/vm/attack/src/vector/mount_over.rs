//! mount(2) of a tmpfs over the file system with the pins.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MOUNT_OVER",
    title: "mount(2) over the bpffs with the pins: the next guard finds none",
    source: "mount(2)",
    hook: "sb_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let over = place::file_system(target)?;
    let kind = c"tmpfs".as_ptr() as u64;
    sys::call(libc::SYS_mount, [kind, over.as_ptr() as u64, kind, 0, 0, 0]).step("mount")?;
    place::uncover(&over);
    Ok("covered".into())
}
