//! What an operator may choose of the TPM: how it is reached, which attestation key, which endorsement key, which PCR bank.
//! Parsed here, so that a wrong word is refused before a device is opened.
//!
//! Must never fall back to another key or bank than the one named: the Verifier's AK certificate is over one key.

use std::{fmt, str::FromStr};

use rempart_attest::pcr::Bank;
use serde::{Deserialize, Serialize};

use crate::tpm::{self, TpmError};

/// Handles of persistent objects (Part 2, 7.4: TPM_HT_PERSISTENT); the lower half belongs to the owner (Part 2, 7.5).
const PERSISTENT: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x81ff_ffff;
const OWNER: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;

/// How one TPM is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmOptions {
    /// TCTI configuration, such as `device:/dev/tpmrm0`.
    pub tcti: String,
    /// Which key signs quotes.
    pub ak: AkSource,
    /// Which key shows what TPM this is, at enrolment.
    pub ek: EkChoice,
    /// Which PCR bank is quoted.
    pub bank: Bank,
}

/// An option's text that means nothing. The configuration is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    /// `ak`.
    #[error(
        "tpm.ak {0:?} is not one of template:ecc-p256, template:rsa-2048, template:ecc-p384, persistent:0x81000000 to persistent:0x81ffffff"
    )]
    Ak(String),
    /// `ek`.
    #[error("tpm.ek {0:?} is not one of auto, rsa-2048, ecc-p256, ecc-p384")]
    Ek(String),
    /// A handle to make a key persistent at.
    #[error("{0:#010x} is no persistent handle of the owner, which are 0x81000000 to 0x817fffff")]
    OwnerHandle(u32),
}

/// Where the attestation key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum AkSource {
    /// Made anew by a fixed template each time it is needed: the same key each time, and nothing to store.
    Template(AkKind),
    /// Stays in the TPM at this handle ([`crate::Tpm::persist_ak`], or made by other tools): for TPMs that are slow to make keys.
    Persistent(PersistentHandle),
}

/// Kinds of attestation key that have a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AkKind {
    /// ECDSA with SHA-256 on NIST P-256.
    EccP256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits.
    Rsa2048,
    /// ECDSA with SHA-384 on NIST P-384.
    EccP384,
}

/// A handle of a persistent object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistentHandle(u32);

/// Which endorsement key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum EkChoice {
    /// The first of [`EkKind::ALL`] that the manufacturer certified; RSA 2048 when it certified none.
    Auto,
    /// This one, certified or not.
    Kind(EkKind),
}

/// Kinds of endorsement key, by the templates of the TCG EK Credential Profile 2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EkKind {
    /// Template L-1.
    Rsa2048,
    /// Template L-2.
    EccP256,
    /// Template H-3.
    EccP384,
}

impl TpmOptions {
    /// Defaults for the TPM at `tcti`: ECC P-256 attestation key by template, certified endorsement key, sha256 bank.
    pub fn new(tcti: impl Into<String>) -> Self {
        Self {
            tcti: tcti.into(),
            ak: AkSource::Template(AkKind::EccP256),
            ek: EkChoice::Auto,
            bank: Bank::Sha256,
        }
    }

    /// Whether the TCTI is well formed; opens nothing. The rest is judged by its types.
    pub fn judge(&self) -> Result<(), TpmError> {
        tpm::parse(&self.tcti).map(drop)
    }
}

impl AkKind {
    const NAMES: [(Self, &str); 3] = [
        (Self::EccP256, "ecc-p256"),
        (Self::Rsa2048, "rsa-2048"),
        (Self::EccP384, "ecc-p384"),
    ];
}

impl EkKind {
    /// Every kind, in the order in which [`EkChoice::Auto`] looks for certificates.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::EccP256, Self::EccP384];

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::EccP256 => "ecc-p256",
            Self::EccP384 => "ecc-p384",
        }
    }

    /// NV index of its certificate (EK Credential Profile, 2.2.1.4 and 2.2.1.5).
    pub fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x01c0_0002,
            Self::EccP256 => 0x01c0_000a,
            Self::EccP384 => 0x01c0_0016,
        }
    }
}

impl PersistentHandle {
    /// Any persistent object's.
    pub fn new(handle: u32) -> Option<Self> {
        PERSISTENT.contains(&handle).then_some(Self(handle))
    }

    /// One that the owner may put a key at.
    pub fn of_owner(handle: u32) -> Result<Self, OptionError> {
        if OWNER.contains(&handle) {
            Ok(Self(handle))
        } else {
            Err(OptionError::OwnerHandle(handle))
        }
    }

    /// TPM_HANDLE.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl FromStr for AkSource {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let wrong = || OptionError::Ak(text.to_owned());
        if let Some(name) = text.strip_prefix("template:") {
            let kind = AkKind::NAMES.iter().find(|(_, known)| *known == name);
            return kind.map(|(kind, _)| Self::Template(*kind)).ok_or_else(wrong);
        }
        let digits = text.strip_prefix("persistent:0x").ok_or_else(wrong)?;
        // from_str_radix takes a sign, a handle has none.
        let hex = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let handle = u32::from_str_radix(digits, 16).ok().filter(|_| hex);
        handle
            .and_then(PersistentHandle::new)
            .map(Self::Persistent)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for AkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(kind) => write!(f, "template:{kind}"),
            Self::Persistent(handle) => write!(f, "persistent:{:#010x}", handle.0),
        }
    }
}

impl fmt::Display for AkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(kind, _)| kind == self);
        f.write_str(name.expect("each kind stands in the table").1)
    }
}

impl FromStr for EkChoice {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let kind = EkKind::ALL.into_iter().find(|kind| kind.name() == text);
        kind.map(Self::Kind).ok_or_else(|| OptionError::Ek(text.to_owned()))
    }
}

impl fmt::Display for EkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kind(kind) => kind.name(),
        })
    }
}

impl TryFrom<String> for AkSource {
    type Error = OptionError;

    fn try_from(text: String) -> Result<Self, OptionError> {
        text.parse()
    }
}

impl From<AkSource> for String {
    fn from(source: AkSource) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for EkChoice {
    type Error = OptionError;

    fn try_from(text: String) -> Result<Self, OptionError> {
        text.parse()
    }
}

impl From<EkChoice> for String {
    fn from(choice: EkChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read_as_it_is_written() {
        for text in [
            "template:ecc-p256",
            "template:rsa-2048",
            "template:ecc-p384",
            "persistent:0x81010002",
        ] {
            let source: AkSource = text.parse().expect("known");
            assert_eq!(source.to_string(), text);
        }
        for text in ["auto", "rsa-2048", "ecc-p256", "ecc-p384"] {
            let choice: EkChoice = text.parse().expect("known");
            assert_eq!(choice.to_string(), text);
        }
    }

    #[test]
    fn a_word_that_means_nothing_is_refused() {
        for text in [
            "",
            "template:",
            "template:ecc-p521",
            "ecc-p256",
            "persistent:0x80000001",
            "persistent:81010002",
            "persistent:0x8101",
            "persistent:0x+1010002",
        ] {
            assert_eq!(text.parse::<AkSource>(), Err(OptionError::Ak(text.to_owned())));
        }
        assert!("rsa-1024".parse::<EkChoice>().is_err());
        assert!("Auto".parse::<EkChoice>().is_err());
    }

    #[test]
    fn the_platforms_handles_are_not_the_owners() {
        assert!(PersistentHandle::of_owner(0x8180_0000).is_err());
        assert!(PersistentHandle::new(0x8180_0000).is_some());
        assert!(PersistentHandle::of_owner(0x8101_0002).is_ok());
    }
}
