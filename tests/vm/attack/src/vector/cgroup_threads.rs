//! cgroup.threads of the victim's cgroup: one thread, to where it is.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_THREADS",
    title: "cgroup.threads: moves a single thread",
    source: "cgroups(7)",
    hook: "inode_permission",
    scope: Scope::Process,
    recorded_as: "CGROUP_MOVE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let file = cgroup::own_folder_of(target.pid)?.join("cgroup.threads");
    fs::write(&file, target.pid.to_string()).step("write cgroup.threads")?;
    Ok(file.display().to_string())
}
