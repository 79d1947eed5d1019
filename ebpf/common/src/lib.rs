//! What the BPF programs and the guard both know: layouts, vector numbers, the table of procfs names.
//!
//! The other half stands in `ebpf/bpf/layout.h`; tests here compare the two. Bytes in, values out: this
//! crate opens nothing and must never guess at a layout that is too short.

#![no_std]
#![forbid(unsafe_code)]

/// Events as they lie in the rings.
mod event;
/// Labels, configuration and map keys.
mod label;
/// Fingerprints of secrets.
mod leak;
/// Names of files in procfs and what opening them is.
mod procfile;
/// The vectors, by number and by name.
mod vector;

pub use event::{Event, Verdict};
pub use label::{Config, EXE_AGENT_UNIT, EXE_GUARD_UNIT, Flags, Label, Lift, Mode, OwnKind, Seal, own_key};
pub use leak::{FILTER_BYTES, LeakKey, LeakSet, MAX_PRINTS, MAX_WATCHED, NARROW, STRIDE, WIDE};
pub use procfile::{PROCFILES, PROCNAME_LEN, ProcFile, ProcKey};
pub use vector::Vector;

/// Bytes of a little window of a map value; `None` when the value is shorter than the layout says.
pub(crate) fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
