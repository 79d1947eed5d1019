//! What was observed of a machine. The checks judge this and nothing else, so that each of their branches can be played.

use std::collections::BTreeMap;

use rempart_api::guard;
use rempart_core::config::Settings;

use super::tpm::Permanent;
use crate::{status::Status, units::validate::Survey};

/// Something that may not be there, or not for us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seen<T> {
    /// As it is.
    Is(T),
    /// It is not there.
    #[default]
    Absent,
    /// It may be there; why it could not be looked at.
    Hidden(String),
}

impl<T> Seen<T> {
    /// What the kernel said.
    pub fn of(result: std::io::Result<T>) -> Self {
        use std::io::ErrorKind;
        match result {
            Ok(value) => Self::Is(value),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Self::Absent,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Self::Hidden("only root may look".to_owned()),
            Err(error) => Self::Hidden(error.to_string()),
        }
    }

    /// The same of something else.
    pub fn map<U>(self, then: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Is(value) => Seen::Is(then(value)),
            Self::Absent => Seen::Absent,
            Self::Hidden(why) => Seen::Hidden(why),
        }
    }

    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Hidden(_) => None,
        }
    }
}

/// All of it.
#[derive(Debug)]
pub struct Facts {
    /// Seconds since 1970.
    pub now: u64,
    /// The kernel.
    pub kernel: Kernel,
    /// How the machine was booted.
    pub boot: Boot,
    /// Its TPM.
    pub tpm: Tpm,
    /// Its systemd.
    pub system: System,
    /// What of Rempart is installed.
    pub installed: Installed,
    /// What is in force.
    pub live: Live,
}

/// The kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// `uname -r`
    pub release: String,
    /// Its command line.
    pub cmdline: String,
    /// Names of its security modules.
    pub lsm: Seen<String>,
    /// It has its own types.
    pub btf: bool,
    /// memfd_secret was tried.
    pub secret_memory: Result<(), String>,
    /// /sys/kernel/security/lockdown
    pub lockdown: Seen<String>,
    /// Where pages of memory may go.
    pub swaps: Vec<Swap>,
    /// Measurements that IMA has made.
    pub ima: Seen<u64>,
}

/// One swap area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// File or device.
    pub path: String,
    /// It stays in memory (zram), or is written under a key (dm-crypt).
    pub safe: bool,
}

/// How the machine was booted.
#[derive(Debug, Clone)]
pub struct Boot {
    /// By UEFI.
    pub uefi: bool,
    /// The EFI variable SecureBoot.
    pub secure_boot: Seen<bool>,
    /// The firmware's event log.
    pub log: Seen<EventLog>,
    /// What loads the kernel.
    pub loader: Loader,
}

/// The beginning of an event log (PC Client Platform Firmware Profile, 10.4.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventLog {
    /// Nothing is in it.
    Empty,
    /// Of the old format.
    Sha1Only,
    /// As it should be.
    Agile,
}

/// What loads the kernel, as far as it can be told.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    /// systemd-stub has left its name: a unified kernel image runs.
    pub stub: bool,
    /// systemd-boot has left its name.
    pub systemd_boot: bool,
    /// /etc/default/grub
    pub grub: Seen<String>,
    /// /etc/kernel/cmdline
    pub kernel_cmdline: Seen<String>,
    /// Programs that are installed, of those that a change of the command line needs.
    pub programs: Vec<&'static str>,
    /// The file of the running kernel.
    pub image: Option<String>,
}

/// The TPM.
#[derive(Debug, Clone)]
pub struct Tpm {
    /// /dev/tpmrm0 is there.
    pub device: bool,
    /// Major version.
    pub version: String,
    /// Active PCR banks.
    pub banks: Vec<String>,
    /// The guard keeps it for the agent: it was not asked.
    pub kept: bool,
    /// What it says of its state.
    pub permanent: Seen<Permanent>,
    /// The TPM library's module for the device is installed.
    pub library: bool,
}

/// systemd and the bus.
#[derive(Debug)]
pub struct System {
    /// Its version.
    pub systemd: Seen<String>,
    /// The clock follows a time server.
    pub synchronised: Seen<bool>,
    /// LimitMEMLOCK= of rempartd.service, bytes.
    pub locked_memory: Seen<u64>,
    /// ActiveState of our units.
    pub units: BTreeMap<&'static str, Seen<String>>,
    /// The user that owns the agent's name on the bus.
    pub name_owner: Seen<u32>,
}

/// A file or folder's mode and owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// Its user.
    pub user: u32,
    /// Its group.
    pub group: u32,
}

/// What of Rempart is installed.
#[derive(Debug)]
pub struct Installed {
    /// Text of the bus's policy.
    pub bus_policy: Seen<String>,
    /// passwd(5)
    pub passwd: String,
    /// group(5)
    pub groups: String,
    /// What lies at each path of [`super::installed::FOLDERS`] and of the configuration.
    pub entries: BTreeMap<String, Seen<Entry>>,
    /// The configuration as the agent reads it.
    pub settings: Seen<Result<Settings, String>>,
    /// Each file of certificates that the configuration or the agent's state names.
    pub certificates: Vec<(String, SeenCertificates)>,
}

/// The certificates of a file, or why it has none that can be read.
pub type SeenCertificates = Seen<Result<Vec<Certificate>, String>>;

/// What counts of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose.
    pub subject: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// What is in force.
#[derive(Debug)]
pub struct Live {
    /// The agent's status, or why there is none.
    pub agent: Result<Box<Status>, String>,
    /// The guard's own word, where the agent does not tell.
    pub guard: Seen<guard::Status>,
    /// Names of what is pinned.
    pub pins: Seen<Vec<String>>,
    /// The audit log.
    pub audit: Seen<Audit>,
    /// Units that opted in.
    pub units: Survey,
}

/// The audit log, replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Entries.
    pub entries: usize,
    /// Where it does not hold together.
    pub broken: Option<String>,
    /// The head that the agent told before is in it; `None` without an agent.
    pub has_head: Option<bool>,
}
