//! Which units there are on this machine, which of them opted in, and what becomes of each when systemd starts it.
//!
//! The generator, which writes that down, and the command line, which shows it, both ask here, so that what an operator is
//! shown is what will run. Reads unit files and their folders; must never write anything or ask a program.

#![forbid(unsafe_code)]

/// A unit that may have opted in, with its files, and its judgement.
mod candidate;
/// One `ExecStart=` line.
mod command;
/// Why a unit cannot be wrapped, and what to do about it.
mod defect;
/// The text of a drop-in, from the text of a unit.
mod dropin;
/// Units and drop-ins on disk.
mod units;

pub use candidate::{Candidate, Kind, MAX_FILE, mentioned_in};
pub use command::{CommandError, rewrite};
pub use defect::Defect;
pub use dropin::{Command, Judgement, commands, judge, leaving};
pub use units::{Found, Scope, Units, is_prefix, unit_type};
