//! The agent's configuration, opened for writing.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_WRITE",
    title: "The agent's configuration, opened for writing",
    source: "open(2)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    fs::OpenOptions::new()
        .append(true)
        .open(own_file::CONFIG)
        .step("open for writing")?;
    Ok("opened".into())
}
