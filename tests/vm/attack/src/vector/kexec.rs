//! kexec_load(2) of nothing: asks for the permission, and removes what another had loaded.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "KEXEC",
    title: "kexec_load(2): another kernel that inherits all memory",
    source: "kexec_load(2)",
    hook: "kernel_load_data",
    scope: Scope::Machine,
    recorded_as: "KEXEC",
    stopped: true,
    note: "kexec_file_load(2) is stopped by kernel_read_file",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    sys::call(libc::SYS_kexec_load, [0; 6]).step("kexec_load")?;
    Ok("permitted".into())
}
