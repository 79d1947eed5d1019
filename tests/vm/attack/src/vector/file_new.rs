//! A new file in the folder of the configuration: a fragment that overrides it.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::Attempt,
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
    own_file::make_and_remove("attack.toml", |path| fs::write(path, ""), |path| fs::remove_file(path))
}
