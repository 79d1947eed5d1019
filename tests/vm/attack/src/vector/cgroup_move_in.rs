//! Enters the victim's cgroup, and leaves it again.

use super::{Scope, Vector, cgroup};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_MOVE_IN",
    title: "cgroup.procs of the victim: the attacker enters the unit",
    source: "cgroups(7)",
    hook: "inode_permission",
    scope: Scope::Process,
    recorded_as: "CGROUP_MOVE",
    stopped: true,
    note: "a process in a unit's cgroup is no part of the unit",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let own = std::process::id() as i32;
    let home = cgroup::folder_of(own)?;
    let theirs = cgroup::own_folder_of(target.pid)?;
    cgroup::enter(&theirs, own)?;
    cgroup::enter(&home, own)?;
    Ok(format!("was in {}", theirs.display()))
}
