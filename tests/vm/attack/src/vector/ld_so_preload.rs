//! /etc/ld.so.preload: a library for every program that is started from now on.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "LD_SO_PRELOAD",
    title: "/etc/ld.so.preload: a library for every program that is started from now on",
    source: "ld.so(8)",
    hook: "inode_create",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    fs::write("/etc/ld.so.preload", "").step("make the file")?;
    fs::remove_file("/etc/ld.so.preload").step("remove it")?;
    Ok("made and removed".into())
}
