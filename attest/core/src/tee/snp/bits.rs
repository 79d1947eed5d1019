//! The three bit fields of a report: the guest's policy, the platform's information and the information about keys.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Guest policy (56860, 4.3): what the guest's owner demanded of the firmware at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

/// Bits of [`GuestPolicy`].
pub mod guest {
    /// Simultaneous multi-threading may be on.
    pub const SMT: u64 = 1 << 16;
    /// Reserved, must be one.
    pub const MUST_BE_ONE: u64 = 1 << 17;
    /// A migration agent may be associated.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// The host may read and write the guest's memory.
    pub const DEBUG: u64 = 1 << 19;
    /// Runs on one socket only.
    pub const SINGLE_SOCKET: u64 = 1 << 20;
    /// CXL devices and memory may be there.
    pub const CXL_ALLOW: u64 = 1 << 21;
    /// Memory is encrypted with AES-256-XTS only.
    pub const MEM_AES_256_XTS: u64 = 1 << 22;
    /// Running average power limit must be off.
    pub const RAPL_DIS: u64 = 1 << 23;
    /// Ciphertext must be hidden from the host.
    pub const CIPHERTEXT_HIDING: u64 = 1 << 24;
    /// The host may not move or swap the guest's pages.
    pub const PAGE_SWAP_DISABLE: u64 = 1 << 25;
    /// Every bit that has a meaning, the ABI version included.
    pub const KNOWN: u64 = (1 << 26) - 1;
}

impl GuestPolicy {
    /// Whether a bit of [`guest`] is set.
    pub fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// The lowest ABI version that the guest's owner accepts.
    pub fn min_abi(self) -> Abi {
        let [minor, major, ..] = self.0.to_le_bytes();
        Abi { major, minor }
    }
}

/// Platform information (56860, table 24): how the host's firmware has set up the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

/// Bits of [`PlatformInfo`].
pub mod platform {
    /// Simultaneous multi-threading is on.
    pub const SMT: u64 = 1;
    /// Transparent memory encryption is on.
    pub const TSME: u64 = 1 << 1;
    /// Memory has error correction.
    pub const ECC: u64 = 1 << 2;
    /// Running average power limit is off.
    pub const RAPL_DIS: u64 = 1 << 3;
    /// Ciphertext is hidden from the host.
    pub const CIPHERTEXT_HIDING: u64 = 1 << 4;
    /// Since the last reset, no aliased memory addresses were found (AMD-SB-3015, BadRAM).
    pub const ALIAS_CHECK: u64 = 1 << 5;
    /// Trusted I/O is on.
    pub const TIO: u64 = 1 << 7;
}

impl PlatformInfo {
    /// Whether a bit of [`platform`] is set.
    pub fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

/// Information about keys, at 0x48 of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

/// What signed a report, as the report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKey {
    /// A key that the chip derives from its own secret and its TCB.
    Vcek,
    /// A key that AMD gave a cloud provider for all its chips.
    Vlek,
}

impl SigningKey {
    /// As AMD writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl KeyInfo {
    /// Bit 0: AUTHOR_KEY_DIGEST is meant.
    pub fn author_key(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 1: the host has hidden the chip's key, and the signature is zeros.
    pub fn masked(self) -> bool {
        self.0 & 2 != 0
    }

    /// Bits 4:2; `None` for no key (7) and for reserved values.
    pub fn signing_key(self) -> Option<SigningKey> {
        match (self.0 >> 2) & 7 {
            0 => Some(SigningKey::Vcek),
            1 => Some(SigningKey::Vlek),
            _ => None,
        }
    }
}

/// Version of the SEV-SNP ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Abi {
    /// Incompatible changes.
    pub major: u8,
    /// Compatible ones.
    pub minor: u8,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<Abi> for String {
    fn from(abi: Abi) -> Self {
        abi.to_string()
    }
}

impl TryFrom<String> for Abi {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('.');
        let parsed = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parsed.ok_or("an ABI version is MAJOR.MINOR")?;
        Ok(Self { major, minor })
    }
}

/// A build of the SEV firmware: ABI version and build number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware {
    /// Its ABI.
    pub abi: Abi,
    /// Counts within one ABI version.
    pub build: u8,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} build {}", self.abi, self.build)
    }
}
