//! The trace buffer: what others have traced.

use super::{Scope, Vector, common, tracing};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "TRACE_READ",
    title: "trace of tracefs: what others have traced",
    source: "ftrace",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "TRACEFS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    tracing::with_mount(c"tracefs", |place| common::read_file(&format!("{place}/trace")))
}
