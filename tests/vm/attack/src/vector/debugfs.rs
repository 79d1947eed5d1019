//! A file of debugfs: they have no rules at all.

use super::{Scope, Vector, tracing};
use crate::{
    attempt::{Attempt, Failure, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "DEBUGFS",
    title: "debugfs: drivers and kernel tables, without any rules",
    source: "debugfs",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "DEBUGFS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    tracing::with_mount(c"debugfs", |place| {
        let file = [
            "x86/pti_enabled",
            "sleep_time",
            "bdi/0:0/stats",
            "fault_around_bytes",
            "gpio",
            "clear_warn_once",
        ]
        .iter()
        .map(|name| format!("{place}/{name}"))
        .find(|path| std::path::Path::new(path).exists())
        .ok_or_else(|| Failure::other("no file that is known"))?;
        std::fs::OpenOptions::new()
            .read(!file.ends_with("once"))
            .write(file.ends_with("once"))
            .open(&file)
            .step("open")?;
        Ok(file)
    })
}
