//! open through /proc/PID/map_files: a descriptor on a file that the victim has mapped.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "MAP_FILES",
    title: "open through /proc/PID/map_files: a descriptor on a file that the victim has mapped",
    source: "proc_pid_map_files(5)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "FD_REOPEN",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let folder = format!("/proc/{}/map_files", target.pid);
    let entry = std::fs::read_dir(&folder).step("list map_files")?.next();
    let path = entry.ok_or_else(|| Failure::other("nothing mapped"))?.step("list map_files")?.path();
    std::fs::File::open(&path).step("open map_files entry")?;
    Ok(path.display().to_string())
}
