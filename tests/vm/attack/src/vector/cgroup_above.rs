//! cgroup.kill of the slice above the victim's cgroup.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Failure},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_ABOVE",
    title: "cgroup.kill of the slice above: reaches all units in it",
    source: "cgroups(7)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "CGROUP_KILL",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let folder = cgroup::own_folder_of(target.pid)?;
    let slice = folder.parent().ok_or_else(|| Failure::other("nothing above"))?;
    cgroup::would_kill(slice)
}
