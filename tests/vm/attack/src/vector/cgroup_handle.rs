//! cgroup.freeze by a file handle: the dentry that comes of it has neither name nor parent.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};
use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_HANDLE",
    title: "open_by_handle_at(2) of cgroup.freeze: no path, no name",
    source: "open_by_handle_at(2)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "CGROUP_FREEZE",
    stopped: true,
    note: "",
    attempt,
};

/// struct file_handle with room.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn attempt(target: &Target) -> Attempt {
    let file = cgroup::own_folder_of(target.pid)?.join("cgroup.freeze");
    let name = CString::new(file.as_os_str().as_bytes()).map_err(|_| Failure::other("a NUL in the path"))?;
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0i32;
    let at = libc::AT_FDCWD as u64;
    sys::call(
        libc::SYS_name_to_handle_at,
        [
            at,
            name.as_ptr() as u64,
            &raw mut handle as u64,
            &raw mut mount as u64,
            0,
            0,
        ],
    )
    .step("name_to_handle_at")?;
    // Forgotten names: the next open has only the handle.
    let _ = fs::write("/proc/sys/vm/drop_caches", "2");
    let root = File::open(cgroup::ROOT).step("open the mount")?;
    let fd = sys::call_for_fd(
        libc::SYS_open_by_handle_at,
        [
            root.as_raw_fd() as u64,
            &raw mut handle as u64,
            libc::O_RDWR as u64,
            0,
            0,
            0,
        ],
    )
    .step("open_by_handle_at")?;
    File::from(fd).write_all(b"0").step("write by handle")?;
    Ok("written by handle".into())
}
