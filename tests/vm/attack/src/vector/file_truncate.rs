//! truncate(2) of the configuration, to the length that it has.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_TRUNCATE",
    title: "truncate(2) of the configuration, to the length that it has",
    source: "truncate(2)",
    hook: "inode_setattr",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let length = fs::metadata(own_file::CONFIG).step("look at it")?.len();
    let path = own_file::text(own_file::CONFIG)?;
    sys::call(libc::SYS_truncate, [path.as_ptr() as u64, length, 0, 0, 0, 0]).step("truncate")?;
    Ok("set to its own length".into())
}
