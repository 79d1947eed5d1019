//! One of the guard's programs by its id.

use super::{bpf_map, Scope, Vector};
use crate::{attempt::Attempt, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "BPF_PROG",
    title: "One of the guard's programs by its id",
    source: "bpf(2)",
    hook: "bpf_prog",
    scope: Scope::Guard,
    recorded_as: "BPF_PROG",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    // `name` follows type, id, tag, two lengths, two pointers, load time, uid, count, pointer.
    bpf_map::by_id(11, 13, |fd| bpf_map::name(fd, 64) == "procfs_open")
}
