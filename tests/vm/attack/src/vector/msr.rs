//! Registers of the processor, by a node that we make ourselves: writing some turns protection off.

use super::{Scope, Vector, common};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
};

pub(super) const VECTOR: Vector = Vector {
    name: "MSR",
    title: "registers of the processor, by a node that we make ourselves: writing some turns protection off",
    source: "msr(4)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "MSR",
    stopped: true,
    note: "",
    attempt,
};

/// IA32_TIME_STAMP_COUNTER: every processor has it.
const TIME_STAMP_COUNTER: u64 = 0x10;

fn attempt(_target: &Target) -> Attempt {
    // The driver is a module on most systems; where it is built in, or loaded already, this changes nothing.
    let _ = Command::new("modprobe").arg("msr").stderr(Stdio::null()).status();
    let opened = common::open_device(202, 0, File::options().read(true))?.step("open the processor's registers");
    let mut value = [0u8; 8];
    let read = opened?.read_exact_at(&mut value, TIME_STAMP_COUNTER);
    read.step("read a register").map(|()| "read one".into())
}
