//! Moves the pins' folder away: a restarted guard would not find them.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PIN_RENAME",
    title: "Moves the pins' folder away: a restarted guard would not find them",
    source: "rename(2)",
    hook: "inode_rename",
    scope: Scope::Guard,
    recorded_as: "UNPIN",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    std::fs::rename(&target.pins, format!("{}-away", target.pins)).step("rename the pins' folder")?;
    Ok("moved away".into())
}
