//! Unlinks the pin of a link: with the guard gone, its program would be detached.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "UNPIN",
    title: "Unlinks the pin of a link: with the guard gone, its program would be detached",
    source: "bpf(2)",
    hook: "inode_permission",
    scope: Scope::Guard,
    recorded_as: "PIN_OPEN",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    std::fs::remove_file(format!("{}/link_file_asked", target.pins)).step("unlink the pin")?;
    Ok("pin gone".into())
}
