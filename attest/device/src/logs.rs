//! The measurement logs, and what else the running image left for a Verifier; most of it only root may read.
//!
//! Nothing here is trusted: the Verifier replays the logs against the quoted PCRs. What does not exist is empty; what is too long is
//! an error, never cut, since a cut log cannot replay.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use rempart_attest::limits;
use serde::{Deserialize, Serialize};

/// The firmware's event log (TCG PC Client Platform Firmware Profile), as the kernel shows it.
pub const UEFI_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// systemd's own event log (systemd-pcrextend and others), JSON-SEQ.
pub const USERSPACE_LOG: &str = "/run/log/systemd/tpm2-measure.log";
/// The kernel's list of measured files (IMA). Kernels that keep a list for each bank keep this name for the one whose template
/// digests are SHA-1; the template data, from which every bank's digest follows, is the same in all of them.
pub const IMA_LOG: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
/// Signatures over PCR 11 that came with the image (its .pcrsig section), as systemd-stub left them.
pub const PCR_SIGNATURES: &str = "/run/systemd/tpm2-pcr-signature.json";
/// The image's .osrel section, as systemd-stub left it.
pub const OS_RELEASE: &str = "/run/systemd/stub/os-release";

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
    /// [`IMA_LOG`]; empty when there is none. It may be longer each time.
    #[serde(with = "serde_bytes", default)]
    pub ima_log: Vec<u8>,
    /// [`PCR_SIGNATURES`]; empty when there is none.
    #[serde(with = "serde_bytes", default)]
    pub pcr_signatures: Vec<u8>,
    /// [`OS_RELEASE`]; empty when there is none.
    #[serde(with = "serde_bytes", default)]
    pub os_release: Vec<u8>,
}

/// Each file with its maximum. One table, so that reading and judging cannot differ.
const FILES: [(&str, usize); 5] = [
    (UEFI_LOG, limits::UEFI_LOG),
    (USERSPACE_LOG, limits::USERSPACE_LOG),
    (IMA_LOG, limits::IMA_LOG),
    (PCR_SIGNATURES, limits::PCR_SIGNATURES),
    (OS_RELEASE, limits::OS_RELEASE),
];
/// All of them at their longest, bytes.
pub const MAX: usize = {
    let mut sum = 0;
    let mut index = 0;
    while index < FILES.len() {
        sum += FILES[index].1;
        index += 1;
    }
    sum
};

impl Logs {
    /// Reads all from this machine. Needs root for the kernel's.
    pub fn collect() -> Result<Self, LogError> {
        Self::collect_under(Path::new("/"))
    }

    fn collect_under(root: &Path) -> Result<Self, LogError> {
        let mut logs = Self::default();
        for (log, (path, max)) in logs.parts_mut().into_iter().zip(FILES) {
            *log = read(&root.join(path.trim_start_matches('/')), max)?;
        }
        Ok(logs)
    }

    /// Whether every part is within its maximum.
    pub(crate) fn within_limits(&self) -> bool {
        let parts = [
            &self.uefi_log,
            &self.userspace_log,
            &self.ima_log,
            &self.pcr_signatures,
            &self.os_release,
        ];
        parts.into_iter().zip(FILES).all(|(log, (_, max))| log.len() <= max)
    }

    /// In the order of [`FILES`].
    fn parts_mut(&mut self) -> [&mut Vec<u8>; 5] {
        [
            &mut self.uefi_log,
            &mut self.userspace_log,
            &mut self.ima_log,
            &mut self.pcr_signatures,
            &mut self.os_release,
        ]
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
    fn each_file_lands_in_its_field() {
        let root = tempfile::tempdir().expect("temporary folder");
        for (path, _) in FILES {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("folder")).expect("folders");
            std::fs::write(&path, path.file_name().expect("name").as_encoded_bytes()).expect("write");
        }
        let logs = Logs::collect_under(root.path()).expect("read");
        assert_eq!(logs.uefi_log, b"binary_bios_measurements");
        assert_eq!(logs.userspace_log, b"tpm2-measure.log");
        assert_eq!(logs.ima_log, b"binary_runtime_measurements");
        assert_eq!(logs.pcr_signatures, b"tpm2-pcr-signature.json");
        assert_eq!(logs.os_release, b"os-release");
        let long = root.path().join(IMA_LOG.trim_start_matches('/'));
        std::fs::File::create(&long)
            .and_then(|file| file.set_len(limits::IMA_LOG as u64 + 1))
            .expect("a long list");
        let refused = Logs::collect_under(root.path()).expect_err("refused whole");
        assert!(refused.to_string().contains("binary_runtime_measurements is longer"));
    }
}
