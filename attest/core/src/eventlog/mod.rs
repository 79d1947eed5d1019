//! Event logs: the firmware's (TCG PC Client Platform Firmware Profile, 10) and systemd's. They come from the node and are believed
//! only as far as their replay equals quoted registers; then only the digests count. Texts and types explain, they never decide.

/// The kernel's list of measured files.
pub mod ima;
/// What both logs are replayed to.
pub mod replay;
/// The firmware's binary log.
pub mod uefi;
/// systemd's JSON log.
pub mod userspace;

use crate::pcr::PcrValue;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register it was extended into.
    pub pcr: u8,
    /// The digest that was extended, of the bank that the log was read for.
    pub digest: PcrValue,
    /// In words, shortened and printable: the log's claim.
    pub text: String,
    /// The data of the event when it is claimed to be a kernel command line, decoded.
    pub command_line: Option<String>,
}

/// Keeps what a terminal can show, at most `max` characters.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
    if text.chars().count() > max {
        out.push('…');
    }
    out
}
