//! cgroup.freeze, opened before the victim is protected, written afterwards (once the file of --after is there).

use super::{Scope, Vector, cgroup};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{fs::OpenOptions, io::Write};

pub(super) const VECTOR: Vector = Vector {
    name: "CGROUP_EARLY",
    title: "cgroup.freeze, opened for writing before the victim is protected, written afterwards",
    source: "cgroups(7)",
    hook: "file_permission",
    scope: Scope::Process,
    recorded_as: "CGROUP_FREEZE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let path = cgroup::own_folder_of(target.pid)?.join("cgroup.freeze");
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .step("open cgroup.freeze early")?;
    target.wait()?;
    file.write_all(b"0").step("write cgroup.freeze")?;
    Ok("written".into())
}
