//! Any link by its id, to detach it.

use super::{Scope, Vector, bpf_map, common};
use crate::{attempt::Attempt, sys, target::Target};

pub(super) const VECTOR: Vector = Vector {
    name: "LINK_DETACH",
    title: "bpf(BPF_LINK_GET_FD_BY_ID), then BPF_LINK_DETACH",
    source: "bpf(2)",
    hook: "bpf",
    scope: Scope::Guard,
    recorded_as: "LINK_GET",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    // BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID
    bpf_map::by_id(31, 30, |fd| {
        let mut attr: [u8; 4] = common::attr(&[(0, fd, 4)]);
        // BPF_LINK_DETACH
        sys::bpf(34, &mut attr).is_ok()
    })
}
