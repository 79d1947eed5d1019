//! /proc/PID/pagemap: which physical page holds an address.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::os::unix::fs::FileExt;

pub(super) const VECTOR: Vector = Vector {
    name: "PAGEMAP_READ",
    title: "/proc/PID/pagemap: which physical page holds an address",
    source: "proc_pid_pagemap(5)",
    hook: "file_open",
    scope: Scope::Process,
    recorded_as: "PAGEMAP_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let file = std::fs::File::open(format!("/proc/{}/pagemap", target.pid)).step("open pagemap")?;
    let addr = target.address().step("find an address")?;
    let mut entry = [0u8; 8];
    file.read_exact_at(&mut entry, addr / 4096 * 8).step("read pagemap")?;
    Ok(format!("{addr:x} is {:016x}", u64::from_le_bytes(entry)))
}
