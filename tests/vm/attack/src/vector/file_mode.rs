//! chmod(2) of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_MODE",
    title: "chmod(2) of the configuration",
    source: "chmod(2)",
    hook: "inode_setattr",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let mode = fs::metadata(own_file::CONFIG).step("look at it")?.permissions();
    fs::set_permissions(own_file::CONFIG, mode).step("chmod")?;
    Ok("set to its own mode".into())
}
