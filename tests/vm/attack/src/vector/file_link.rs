//! A symbolic link in the folder of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::Attempt,
    target::Target,
};
use std::{fs, os::unix::fs::symlink};

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_LINK",
    title: "A symbolic link in the folder of the configuration",
    source: "symlink(2)",
    hook: "inode_symlink",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    own_file::make_and_remove("attack.toml", |path| symlink("/etc/passwd", path), |path| fs::remove_file(path))
}
