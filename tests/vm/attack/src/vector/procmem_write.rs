//! /proc/PID/mem for writing: writes the byte that is there.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{fs::OpenOptions, os::unix::fs::FileExt};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCMEM_WRITE",
    title: "/proc/PID/mem for writing: writes the byte that is there",
    source: "proc_pid_mem(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PROCMEM_WRITE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    let path = format!("/proc/{}/mem", target.pid);
    let mut byte = [0u8; 1];
    let writer = OpenOptions::new().write(true).open(&path).step("open mem for writing")?;
    std::fs::File::open(&path).step("open mem")?.read_at(&mut byte, addr).step("read mem")?;
    writer.write_at(&byte, addr).step("write mem")?;
    Ok(format!("wrote a byte at {addr:x}"))
}
