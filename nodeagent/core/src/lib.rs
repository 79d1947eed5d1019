//! What the agent decides, without doing any of it.
//!
//! Pure: bytes, events and times go in, values and actions come out. This crate opens nothing, spawns
//! nothing and reads no clock, so every decision can be tested without a machine.

#![forbid(unsafe_code)]

/// The audit log's entries and their hash chain.
pub mod audit;
/// Configuration in three stages: fragments, their merge, judged settings.
pub mod config;
/// Fingerprints of secrets, by which a unit's own output is watched.
pub mod fingerprint;
/// Booting → Attesting → Unlocked → Locked.
pub mod machine;
/// The names of secrets in unit files.
pub mod reference;
/// Files of secrets that the node's TPM keeps.
pub mod sealed;
/// Which units were opted in when the agent started, and that they have not changed.
pub mod snapshot;
/// When a lease is renewed or replaced.
pub mod term;
/// systemd unit files and their `[X-Rempart]` section.
pub mod unitfile;
