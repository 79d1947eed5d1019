//! A uprobe through tracefs, defined and removed: it could copy what passes any instruction of any program.

use super::{Scope, Vector, tracing};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "UPROBE",
    title: "uprobe_events: copies registers and memory of a program at an instruction",
    source: "uprobetracer",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "TRACEFS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let program = std::fs::canonicalize("/bin/sh").step("find a program")?;
    let probe = format!("p:rempart/probe {}:0x1000", program.display());
    tracing::with_mount(c"tracefs", |place| {
        tracing::define(&format!("{place}/uprobe_events"), &probe, "-:rempart/probe")
    })
}
