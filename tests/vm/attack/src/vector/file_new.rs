//! A new file in the folder of the configuration: a fragment that overrides it.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_NEW",
    title: "A new file in the folder of the configuration: a fragment that overrides it",
    source: "creat(2)",
    hook: "inode_create",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let path = format!("{}/attack.toml", own_file::FOLDER);
    fs::write(&path, "").step("make a file")?;
    fs::remove_file(&path).step("remove it")?;
    Ok("made and removed".into())
}
