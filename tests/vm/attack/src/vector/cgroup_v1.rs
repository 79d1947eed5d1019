//! A hierarchy of version 1 of our own with a child of ours in it: its freezer would stop any process.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};
use std::{
    ffi::{CStr, CString},
    fs, io,
};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_V1",
    title: "cgroup version 1: a freezer hierarchy mounted by us, into which any process can be moved",
    source: "cgroups(7)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "CGROUP_V1",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let place = format!("/tmp/rempart-cgroup1-{}", std::process::id());
    fs::create_dir_all(&place).step("make a folder")?;
    let name = CString::new(place.clone()).map_err(|_| Failure::other("a NUL in the path"))?;
    let mounted = mount(&name, c"freezer")
        .or_else(|_| mount(&name, c"none,name=rempart"))
        .step("mount cgroup");
    let done = mounted.and_then(|_| enter(&place));
    let _ = sys::call(libc::SYS_umount2, [name.as_ptr() as u64, 0, 0, 0, 0, 0]);
    let _ = fs::remove_dir(&place);
    done
}

fn mount(place: &CStr, options: &CStr) -> io::Result<u64> {
    let kind = c"cgroup".as_ptr() as u64;
    sys::call(
        libc::SYS_mount,
        [kind, place.as_ptr() as u64, kind, 0, options.as_ptr() as u64, 0],
    )
}

fn enter(place: &str) -> Attempt {
    let inner = format!("{place}/inner");
    fs::create_dir(&inner).step("make a cgroup")?;
    let entered = fs::write(format!("{inner}/cgroup.procs"), "0").step("write cgroup.procs");
    if entered.is_ok() {
        let _ = fs::write(format!("{place}/cgroup.procs"), "0");
    }
    let _ = fs::remove_dir(&inner);
    entered.map(|()| "moved".into())
}
