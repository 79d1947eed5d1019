//! The words that Rempart's programs speak to each other: D-Bus names, socket messages, exit codes.
//!
//! Wire types only. This crate opens nothing, decides nothing and must never carry a secret's value:
//! secrets travel as memfd_secret descriptors, not as messages.

#![forbid(unsafe_code)]

/// Messages on the agent socket, between rempart-wrap and rempartd.
pub mod agent;
/// Break-glass tokens.
pub mod breakglass;
/// Names on the system bus.
pub mod bus;
/// Exit codes of all programs (sysexits.h).
pub mod exit;
/// Messages on the guard socket, between rempartd and rempart-guard.
pub mod guard;
/// Requests for jobs of units, from rempartd to rempart-jobs.
pub mod job;
/// One JSON object a line, with a maximum length.
pub mod line;
/// Where things lie in an installed system.
pub mod path;

/// Version of every message in this crate. Another one is refused, never guessed.
pub const PROTOCOL_VERSION: u32 = 1;
