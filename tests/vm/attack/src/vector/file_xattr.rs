//! setxattr(2) on the configuration: labels of other security modules.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_XATTR",
    title: "setxattr(2) on the configuration: labels of other security modules",
    source: "setxattr(2)",
    hook: "inode_setxattr",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let (path, name) = (own_file::text(own_file::CONFIG)?, own_file::text("trusted.rempart-attack")?);
    let value = b"x";
    let args = [path.as_ptr() as u64, name.as_ptr() as u64, value.as_ptr() as u64, 1, 0, 0];
    sys::call(libc::SYS_setxattr, args).step("setxattr")?;
    sys::call(libc::SYS_removexattr, [path.as_ptr() as u64, name.as_ptr() as u64, 0, 0, 0, 0]).step("removexattr")?;
    Ok("set and removed".into())
}
