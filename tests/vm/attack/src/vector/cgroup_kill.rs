//! cgroup.kill of the victim's cgroup: SIGKILL without a signal from a process. Nothing dies here: see `would_kill`.

use super::{Scope, Vector, cgroup};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_KILL",
    title: "cgroup.kill: kills a unit without a signal from a process",
    source: "cgroups(7)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "CGROUP_KILL",
    stopped: true,
    note: "a unit can still be stopped through systemd: availability is not promised",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    cgroup::would_kill(&cgroup::own_folder_of(target.pid)?)
}
