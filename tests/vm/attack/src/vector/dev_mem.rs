//! The memory device, by a node that we make ourselves: names do not count.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "DEV_MEM",
    title: "The memory device, by a node that we make ourselves: names do not count",
    source: "mem(4)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "DEV_MEM",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let path = c"/dev/rempart-attack-mem";
    let node = libc::makedev(1, 1);
    let args = [path.as_ptr() as u64, u64::from(libc::S_IFCHR | 0o600), node, 0, 0, 0];
    sys::call(libc::SYS_mknod, args).step("mknod")?;
    let opened = std::fs::File::open("/dev/rempart-attack-mem").step("open the memory device");
    let _ = std::fs::remove_file("/dev/rempart-attack-mem");
    opened.map(|_| "opened".into())
}
