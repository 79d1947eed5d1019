//! The measurement logs that only root may read, and the message in which rempart-evidence hands them to rempartd:
//! one CBOR map, then end of stream.
//!
//! Nothing here is trusted: the Verifier replays the logs against the quoted PCRs. A log that does not exist is
//! empty; a log that is too long is an error, never cut, since a cut log cannot replay.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    path::Path,
};

use rempart_attest::limits;
use serde::{Deserialize, Serialize};

/// The firmware's event log (TCG PC Client Platform Firmware Profile), as the kernel shows it.
pub const UEFI_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// systemd's own event log (systemd-pcrextend and others), JSON-SEQ.
pub const USERSPACE_LOG: &str = "/run/log/systemd/tpm2-measure.log";
/// Longest message, in bytes: two logs at what the Verifier takes at most, and their names.
pub const MAX_MESSAGE: u64 = (limits::UEFI_LOG + limits::USERSPACE_LOG) as u64 + 1024;

/// Why the logs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log exists and cannot be read.
    #[error("cannot read {path}: {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// A log is longer than any real one.
    #[error("{path} is longer than {max} bytes and is not sent in part")]
    TooLong {
        /// Which.
        path: String,
        /// What is allowed, in bytes.
        max: usize,
    },
    /// The connection broke.
    #[error("connection of the evidence socket failed: {0}")]
    Io(#[from] std::io::Error),
    /// rempart-evidence sent something else than the message; it says why in the journal.
    #[error("rempart-evidence sent no complete answer; see: journalctl -u 'rempart-evidence@*'")]
    ServiceMalformed,
}

/// The measurement logs of this boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// [`UEFI_LOG`]; empty when there is none.
    #[serde(with = "serde_bytes")]
    pub uefi_log: Vec<u8>,
    /// [`USERSPACE_LOG`]; empty when there is none.
    #[serde(with = "serde_bytes")]
    pub userspace_log: Vec<u8>,
}

impl Logs {
    /// Reads both from this machine. Needs root for the firmware's.
    pub fn collect() -> Result<Self, LogError> {
        Ok(Self {
            uefi_log: read(Path::new(UEFI_LOG), limits::UEFI_LOG)?,
            userspace_log: read(Path::new(USERSPACE_LOG), limits::USERSPACE_LOG)?,
        })
    }

    /// Writes the message.
    pub fn write(&self, mut to: impl Write) -> Result<(), LogError> {
        let mut message = Vec::new();
        ciborium::into_writer(self, &mut message).map_err(|_| LogError::ServiceMalformed)?;
        to.write_all(&message)?;
        Ok(to.flush()?)
    }

    /// The message in `bytes`, the whole stream.
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        let mut rest = bytes;
        let logs: Self = ciborium::from_reader(&mut rest).map_err(|_| LogError::ServiceMalformed)?;
        let within = logs.uefi_log.len() <= limits::UEFI_LOG && logs.userspace_log.len() <= limits::USERSPACE_LOG;
        if rest.is_empty() && within {
            Ok(logs)
        } else {
            Err(LogError::ServiceMalformed)
        }
    }
}

fn read(path: &Path, max: usize) -> Result<Vec<u8>, LogError> {
    let unreadable = |why| LogError::Unreadable {
        path: path.display().to_string(),
        why,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut log = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut log).map_err(unreadable)?;
    if log.len() > max {
        return Err(LogError::TooLong {
            path: path.display().to_string(),
            max,
        });
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_log_is_empty_and_an_over_long_one_is_an_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("log");
        assert_eq!(read(&path, 8).expect("absent"), Vec::<u8>::new());
        std::fs::write(&path, [7; 8]).expect("write");
        assert_eq!(read(&path, 8).expect("longest").len(), 8);
        std::fs::write(&path, [7; 9]).expect("write");
        assert!(matches!(read(&path, 8), Err(LogError::TooLong { .. })));
    }

    #[test]
    fn the_message_round_trips_and_a_cut_or_longer_one_is_refused() {
        let logs = Logs {
            uefi_log: vec![1, 2, 3],
            userspace_log: Vec::new(),
        };
        let mut message = Vec::new();
        logs.write(&mut message).expect("to memory");
        assert_eq!(Logs::parse(&message).expect("whole"), logs);
        assert!(Logs::parse(&message[..message.len() - 1]).is_err());
        assert!(Logs::parse(&[message, vec![0]].concat()).is_err());
        assert!(Logs::parse(&[]).is_err());
    }
}
