//! /proc/kcore, opened before the machine is armed, read afterwards (once the file of --after is there).

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{fs::File, io::Read};

pub(super) const VECTOR: Vector = Vector {
    name: "KCORE_EARLY",
    title: "/proc/kcore, opened before the machine is armed, read afterwards",
    source: "proc_kcore(5)",
    hook: "file_permission",
    scope: Scope::Machine,
    recorded_as: "KCORE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let mut file = File::open("/proc/kcore").step("open kcore early")?;
    target.wait()?;
    let mut bytes = [0u8; 64];
    let got = file.read(&mut bytes).step("read kcore")?;
    Ok(format!("{got} bytes"))
}
