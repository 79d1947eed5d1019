//! rename(2) of another file into the place of the configuration.

use super::{Scope, Vector, own_file};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "FILE_REPLACE",
    title: "rename(2) of another file into the place of the configuration",
    source: "rename(2)",
    hook: "inode_rename",
    scope: Scope::Machine,
    recorded_as: "FILE_TAMPER",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let beside = own_file::beside();
    fs::copy(own_file::CONFIG, &beside).step("copy it")?;
    let (ours, theirs) = (own_file::text(&beside)?, own_file::text(own_file::CONFIG)?);
    let at = libc::AT_FDCWD as u64;
    let exchange = || {
        let args = [at, ours.as_ptr() as u64, at, theirs.as_ptr() as u64, libc::RENAME_EXCHANGE as u64, 0];
        sys::call(libc::SYS_renameat2, args).step("renameat2")
    };
    let exchanged = exchange();
    if exchanged.is_ok() {
        exchange()?;
    }
    let _ = fs::remove_file(&beside);
    exchanged.map(|_| "exchanged and back".into())
}
