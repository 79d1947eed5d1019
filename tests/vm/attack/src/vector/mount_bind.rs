//! A bind mount of a folder of ours over the pins.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MOUNT_BIND",
    title: "mount(2) MS_BIND over the pins' folder",
    source: "mount(2)",
    hook: "sb_mount",
    scope: Scope::Guard,
    recorded_as: "MOVE_MOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let (from, over) = (place::ours()?, place::pins(target)?);
    sys::call(
        libc::SYS_mount,
        [from.as_ptr() as u64, over.as_ptr() as u64, 0, libc::MS_BIND, 0, 0],
    )
    .step("bind")?;
    place::uncover(&over);
    Ok("covered".into())
}
