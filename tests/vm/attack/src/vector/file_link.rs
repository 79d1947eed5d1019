//! A symbolic link in the folder of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

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
    let path = format!("{}/attack.toml", own_file::FOLDER);
    std::os::unix::fs::symlink("/etc/passwd", &path).step("make a link")?;
    fs::remove_file(&path).step("remove it")?;
    Ok("made and removed".into())
}
