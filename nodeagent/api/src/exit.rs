//! Exit codes, those of sysexits.h, so that systemd's `Result=` and scripts can tell causes apart.

/// `rempart doctor`: all works, and something is weaker than it could be or could not be looked at. Below what sysexits.h names.
pub const DEGRADED: u8 = 1;
/// Command line used wrongly (EX_USAGE).
pub const USAGE: u8 = 64;
/// Input is malformed (EX_DATAERR).
pub const DATA: u8 = 65;
/// A program or file that is needed is missing (EX_NOINPUT).
pub const NO_INPUT: u8 = 66;
/// The agent, the Verifier or the vault does not answer (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// A defect of Rempart itself (EX_SOFTWARE).
pub const SOFTWARE: u8 = 70;
/// The operating system refused something that is needed (EX_OSERR).
pub const OS: u8 = 71;
/// The peer does not speak the protocol (EX_PROTOCOL).
pub const PROTOCOL: u8 = 76;
/// Refused: not attested, not the unit, not allowed (EX_NOPERM).
pub const REFUSED: u8 = 77;
/// A configuration or unit file is wrong (EX_CONFIG).
pub const CONFIG: u8 = 78;
