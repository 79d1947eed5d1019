//! cgroup.freeze of the victim's cgroup: written with what is there.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::Attempt,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_FREEZE",
    title: "cgroup.freeze: stops a unit without a signal from a process",
    source: "cgroups(7)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "CGROUP_FREEZE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    cgroup::rewrite(&cgroup::own_folder_of(target.pid)?.join("cgroup.freeze"))
}
