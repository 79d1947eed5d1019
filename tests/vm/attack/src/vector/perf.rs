//! perf_event_open(2) on a CPU: samples of whatever runs there.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PERF",
    title: "perf_event_open(2) on a CPU: samples of whatever runs there",
    source: "perf_event_open(2)",
    hook: "perf_event_open",
    scope: Scope::Machine,
    recorded_as: "PERF",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, size 64
    let attr: [u8; 64] = common::attr(&[(0, 1, 4), (4, 64, 4), (8, 0, 8)]);
    let args = [attr.as_ptr() as u64, u64::MAX, 0, u64::MAX, 0, 0];
    sys::call_for_fd(libc::SYS_perf_event_open, args).step("perf_event_open")?;
    Ok("counter of CPU 0 opened".into())
}
