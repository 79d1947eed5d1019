//! bpf(BPF_PROG_LOAD): the smallest tracepoint program.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "BPF_LOAD",
    title: "bpf(BPF_PROG_LOAD): the smallest tracepoint program",
    source: "bpf(2)",
    hook: "bpf",
    scope: Scope::Machine,
    recorded_as: "BPF_LOAD",
    stopped: true,
    note: "",
    attempt,
};

/// `r0 = 0; exit`
const PROGRAM: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// Loads it; gives the descriptor's number.
pub(super) fn load() -> std::io::Result<u64> {
    // BPF_PROG_TYPE_TRACEPOINT
    let fields = [(0, 5, 4), (4, 2, 4), (8, PROGRAM.as_ptr() as u64, 8), (16, c"GPL".as_ptr() as u64, 8)];
    let mut attr: [u8; 128] = common::attr(&fields);
    sys::bpf(5, &mut attr)
}

fn attempt(_target: &Target) -> Attempt {
    let fd = load().step("BPF_PROG_LOAD")?;
    Ok(format!("program loaded as descriptor {fd}"))
}
