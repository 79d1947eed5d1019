//! Moves the victim to a cgroup of ours, and back.

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{fs, path::Path};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_MOVE_OUT",
    title: "cgroup.procs of another cgroup: takes the process out of its unit, to where it can be killed and frozen",
    source: "cgroups(7)",
    hook: "inode_permission, cgroup_procs_write_start",
    scope: Scope::Process,
    recorded_as: "CGROUP_MOVE",
    stopped: true,
    note: "fexit of cgroup_procs_write_start tells whom the write moves",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let home = cgroup::own_folder_of(target.pid)?;
    let ours = Path::new(cgroup::ROOT).join(format!("rempart-attack-{}", std::process::id()));
    fs::create_dir(&ours).step("make a cgroup")?;
    let moved = cgroup::enter(&ours, target.pid);
    let back = moved.is_ok().then(|| cgroup::enter(&home, target.pid));
    let _ = fs::remove_dir(&ours);
    moved?;
    back.transpose()?;
    Ok(format!("moved out of {} and back", home.display()))
}
