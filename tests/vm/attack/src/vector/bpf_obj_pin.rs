//! bpf(BPF_MAP_CREATE) and bpf(BPF_OBJ_PIN): leaves a map of ours behind.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "BPF_OBJ_PIN",
    title: "bpf(BPF_MAP_CREATE) and bpf(BPF_OBJ_PIN): leaves a map of ours behind",
    source: "bpf(2)",
    hook: "bpf",
    scope: Scope::Machine,
    recorded_as: "BPF_LOAD",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    // BPF_MAP_TYPE_ARRAY, key 4, value 4, one entry
    let mut create: [u8; 72] = common::attr(&[(0, 2, 4), (4, 4, 4), (8, 4, 4), (12, 1, 4)]);
    let fd = sys::bpf(0, &mut create).step("BPF_MAP_CREATE")?;
    let path = c"/sys/fs/bpf/rempart-attack";
    let mut pin: [u8; 24] = common::attr(&[(0, path.as_ptr() as u64, 8), (8, fd, 4)]);
    sys::bpf(6, &mut pin).step("BPF_OBJ_PIN")?;
    std::fs::remove_file("/sys/fs/bpf/rempart-attack").step("unlink")?;
    Ok("map created and pinned".into())
}
