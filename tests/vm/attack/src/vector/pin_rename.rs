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
    let away = format!("{}-away", target.pins);
    std::fs::rename(&target.pins, &away).step("rename the pins' folder")?;
    std::fs::rename(&away, &target.pins).step("rename it back")?;
    Ok("moved away and back".into())
}
