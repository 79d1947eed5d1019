//! unlink(2) of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_UNLINK",
    title: "unlink(2) of the configuration",
    source: "unlink(2)",
    hook: "inode_unlink",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let beside = own_file::beside();
    fs::hard_link(own_file::CONFIG, &beside).step("link it elsewhere")?;
    let removed = fs::remove_file(own_file::CONFIG).step("unlink");
    if removed.is_ok() {
        fs::hard_link(&beside, own_file::CONFIG).step("link it back")?;
    }
    let _ = fs::remove_file(&beside);
    removed.map(|()| "removed and put back".into())
}
