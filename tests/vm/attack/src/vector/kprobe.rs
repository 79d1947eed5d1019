//! A kprobe through tracefs, defined and removed: it could copy what passes any function of the kernel.

use super::{Scope, Vector, tracing};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "KPROBE",
    title: "kprobe_events of a tracefs that we mount ourselves: copies what passes a kernel function",
    source: "kprobetrace",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "TRACEFS",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    tracing::with_mount(c"tracefs", |place| {
        tracing::define(
            &format!("{place}/kprobe_events"),
            "p:rempart/probe vfs_read",
            "-:rempart/probe",
        )
    })
}
