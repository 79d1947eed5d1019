//! A folder in the folder of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::Attempt,
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
    own_file::make_and_remove("attack.d", |path| fs::create_dir(path), |path| fs::remove_dir(path))
}
