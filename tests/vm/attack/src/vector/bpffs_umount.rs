//! umount2(2) of the bpffs with the pins.

use super::{Scope, Vector, place};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "BPFFS_UMOUNT",
    title: "umount2(2) of the bpffs with the pins",
    source: "umount2(2)",
    hook: "sb_umount",
    scope: Scope::Guard,
    recorded_as: "BPFFS_UMOUNT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let place = place::file_system(target)?;
    sys::call(
        libc::SYS_umount2,
        [place.as_ptr() as u64, libc::MNT_DETACH as u64, 0, 0, 0, 0],
    )
    .step("umount")?;
    Ok("unmounted".into())
}
