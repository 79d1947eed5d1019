//! rename(2) of a file to /etc/ld.so.preload.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "LD_SO_PRELOAD_MV",
    title: "rename(2) of a file to /etc/ld.so.preload",
    source: "ld.so(8)",
    hook: "inode_rename",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let beside = own_file::beside();
    fs::write(&beside, "").step("make a file")?;
    let renamed = fs::rename(&beside, "/etc/ld.so.preload").step("rename it");
    let _ = fs::remove_file(&beside);
    let _ = fs::remove_file("/etc/ld.so.preload");
    renamed.map(|()| "renamed and removed".into())
}
