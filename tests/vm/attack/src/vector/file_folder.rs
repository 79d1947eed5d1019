//! A folder in the folder of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_FOLDER",
    title: "A folder in the folder of the configuration",
    source: "mkdir(2)",
    hook: "inode_mkdir",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let path = format!("{}/attack.d", own_file::FOLDER);
    fs::create_dir(&path).step("make a folder")?;
    fs::remove_dir(&path).step("remove it")?;
    Ok("made and removed".into())
}
