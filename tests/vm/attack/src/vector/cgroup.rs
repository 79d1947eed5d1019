//! What the cgroup vectors do the same way. Not a vector.

use crate::attempt::{Attempt, Failure, Step};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the hierarchy is mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Folder of a process's cgroup.
pub(super) fn folder_of(pid: i32) -> Result<PathBuf, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).step("read cgroup")?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| Failure::other("no cgroup2 path"))?;
    Ok(Path::new(ROOT).join(path))
}

/// The same, but not the root.
pub(super) fn own_folder_of(pid: i32) -> Result<PathBuf, Failure> {
    folder_of(pid).and_then(|folder| {
        if folder == Path::new(ROOT) || folder == Path::new(ROOT).join("") {
            Err(Failure::other("the victim is in the root cgroup"))
        } else {
            Ok(folder)
        }
    })
}

/// Asks a cgroup to kill with a value that the kernel takes for none: ERANGE is its own answer, behind all checks.
pub(super) fn would_kill(folder: &Path) -> Attempt {
    let file = folder.join("cgroup.kill");
    match fs::write(&file, "0") {
        Err(error) if error.raw_os_error() == Some(libc::ERANGE) => Ok(format!("{} obeys", file.display())),
        other => other.step("write cgroup.kill").map(|()| file.display().to_string()),
    }
}

/// Writes what is there.
pub(super) fn rewrite(file: &Path) -> Attempt {
    let now = fs::read_to_string(file).step(&format!("read {}", file.display()))?;
    fs::write(file, now.trim()).step(&format!("write {}", file.display()))?;
    Ok(file.display().to_string())
}

/// Moves a process.
pub(super) fn enter(folder: &Path, pid: i32) -> Result<(), Failure> {
    let file = folder.join("cgroup.procs");
    fs::write(&file, pid.to_string()).step(&format!("write {}", file.display()))
}
