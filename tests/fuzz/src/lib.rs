//! Fuzz targets: each takes any bytes, hands them to one parser of foreign bytes, and checks what is promised about it: no panic, no
//! endless loop, memory bounded by the input's length, and the round trip where there is a writer. They run in three ways: the
//! corpus on every `cargo test`, the corpus and some thousand mutations in `./x test`, without an end in `./x fuzz`.
//! A target must be deterministic and must never open a file, a socket or a device.
#![deny(unsafe_code)]

/// How much memory one input costs.
pub mod meter;
/// The targets, one file for each kind of input.
pub mod targets;
/// Images for the corpora.
mod uki;

pub use targets::{Target, all, named};
