//! A limit of the victim's cgroup: written with what is there.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Failure},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_LIMIT",
    title: "memory.high, pids.max or another limit of the cgroup: starves the unit",
    source: "cgroups(7)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "CGROUP_LIMIT",
    stopped: true,
    note: "",
    attempt,
};

/// Which controllers are on differs; the last one is always there.
const LIMITS: &[&str] = &["memory.high", "pids.max", "cpu.max", "cgroup.max.descendants"];

fn attempt(target: &Target) -> Attempt {
    let folder = cgroup::own_folder_of(target.pid)?;
    let file = LIMITS.iter().map(|name| folder.join(name)).find(|file| file.exists());
    cgroup::rewrite(&file.ok_or_else(|| Failure::other("no limit"))?)
}
