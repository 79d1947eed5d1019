//! The guard's label map by its id: whoever writes it takes labels away.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "BPF_MAP",
    title: "The guard's label map by its id: whoever writes it takes labels away",
    source: "bpf(2)",
    hook: "bpf_map",
    scope: Scope::Guard,
    recorded_as: "BPF_MAP",
    stopped: true,
    note: "",
    attempt,
};

/// Tries each id of a kind; the first denial is the answer, unless something of the guard's was obtained.
pub(super) fn by_id(next: u64, get: u64, wanted: fn(u64) -> bool) -> Attempt {
    let (mut id, mut denied, mut seen) = (0u64, None, 0);
    loop {
        let mut attr: [u8; 12] = common::attr(&[(0, id, 4)]);
        if sys::bpf(next, &mut attr).is_err() {
            break;
        }
        id = u64::from(u32::from_le_bytes([attr[4], attr[5], attr[6], attr[7]]));
        seen += 1;
        let mut attr: [u8; 12] = common::attr(&[(0, id, 4)]);
        match sys::bpf(get, &mut attr).step("GET_FD_BY_ID") {
            Ok(fd) if wanted(fd) => return Ok(format!("id {id}")),
            Ok(_) => {}
            Err(failure) if failure.is_denial() => denied = Some(failure),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| Failure::other(format!("none of {seen} is the guard's"))))
}

/// The name in the object's information.
pub(super) fn name(fd: u64, at: usize) -> String {
    let mut info = [0u8; 256];
    let mut attr: [u8; 16] = common::attr(&[(0, fd, 4), (4, 256, 4), (8, info.as_mut_ptr() as u64, 8)]);
    let _ = sys::bpf(15, &mut attr);
    info[at..at + 16].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

fn attempt(_target: &Target) -> Attempt {
    by_id(12, 14, |fd| name(fd, 24) == "labels")
}
