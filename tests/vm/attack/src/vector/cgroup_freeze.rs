//! cgroup.freeze of the victim's cgroup: written with what is there. cgroup.kill goes the same way.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_FREEZE",
    title: "cgroup.freeze and cgroup.kill: stops a unit without a signal from a process",
    source: "cgroups(7)",
    hook: "",
    scope: Scope::Process,
    recorded_as: "",
    stopped: false,
    note: "availability is not promised: nothing can be read this way, and a killed guard's programs go on denying",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", target.pid)).step("read cgroup")?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .filter(|path| *path != "/")
        .ok_or_else(|| Failure::other("the victim is in the root cgroup"))?;
    let file = format!("/sys/fs/cgroup{path}/cgroup.freeze");
    let now = fs::read_to_string(&file).step("read cgroup.freeze")?;
    fs::write(&file, now.trim()).step("write cgroup.freeze")?;
    Ok(file)
}
