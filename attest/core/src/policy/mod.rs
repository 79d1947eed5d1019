//! Reference Values: which images a node may boot, by PCR values. A policy is TOML, signed (`signature`) and counted, so that an
//! older one never replaces a newer one. Empty means refused, unknown keys mean refused.

/// Reference Values in the IETF's format.
pub mod corim;
/// What changed between two policies.
pub mod diff;
/// What a register was extended by, to explain a mismatch.
pub mod event;
/// What a policy accepts, in words.
pub mod explain;
/// How sure it is whose TPM a node has.
pub mod identity;
/// One image that may boot.
pub mod image;
/// A moment in a policy.
pub mod instant;
/// Reference values from a machine that is running.
pub mod learn;
/// Computing reference values from an image, before it ever boots.
pub mod predict;
/// PCR 11 signed by a release key.
pub mod release;
/// Who may sign a policy.
pub mod signature;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::pcr::Bank;

pub use self::identity::Identity;
pub use self::image::{Claims, Failure, Image};
pub use self::instant::Instant;

/// The only format version there is.
pub const VERSION: u32 = 1;

/// A signed set of Reference Values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// For people and logs.
    pub name: String,
    /// Grows with each policy; a lower one than the highest accepted is refused.
    pub counter: u64,
    /// Refuse nodes whose guard is not enforcing.
    #[serde(default)]
    pub require_guard: bool,
    /// systemd's own signed report is demanded, and how. Not set: it may be left out; one that is sent must verify all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_report: Option<ReportRule>,
    /// Identity levels that are accepted; all of them when it is left out.
    #[serde(default = "all_identities", skip_serializing_if = "is_all_identities")]
    pub identity: Vec<Identity>,
    /// What the TPM must say of its clock, counters and firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<crate::tpm::counters::CountersRule>,
    /// What may boot.
    #[serde(rename = "image")]
    pub images: Vec<Image>,
}

/// What a policy demands of systemd's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportRule {
    /// One that was verified, fresh by the TPM's clock at least: what systemd 262 can give.
    Required,
    /// One that carries this round's binding as nonce, too: later systemd.
    Nonce,
}

impl std::fmt::Display for ReportRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Nonce => "nonce",
        })
    }
}

fn all_identities() -> Vec<Identity> {
    Identity::ALL.to_vec()
}

fn is_all_identities(levels: &[Identity]) -> bool {
    levels == Identity::ALL
}

/// Why a policy is not one. Whoever wrote it is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Over its maximum.
    #[error("the policy has {found} bytes, {} are allowed", limits::POLICY)]
    TooLarge {
        /// Its size, bytes.
        found: usize,
    },
    /// Not TOML, an unknown key, a missing register.
    #[error("the policy cannot be read: {0}")]
    Malformed(String),
    /// Another version.
    #[error("the policy has version {0}, only {VERSION} is known")]
    Version(u32),
    /// Accepts nothing at all, which is a mistake and not a wish.
    #[error("the policy names no image: an empty policy is refused")]
    Empty,
    /// Accepts nobody.
    #[error("the policy's identity list is empty: name the levels that are accepted, or leave it out to accept all")]
    NoIdentity,
    /// A register without a value.
    #[error("image \"{image}\" of the policy has no value for PCR {pcr}{}", absent_hint(*.pcr))]
    NoValue {
        /// The image.
        image: String,
        /// The register.
        pcr: u8,
    },
    /// A value of another bank than the image's.
    #[error("image \"{image}\" of the policy has a value for PCR {pcr} that is not of its bank {bank}")]
    OtherBank {
        /// The image.
        image: String,
        /// The register.
        pcr: u8,
        /// The bank that the image names.
        bank: Bank,
    },
    /// Both `pcr11` and `pcr11_signed`.
    #[error("image \"{image}\" of the policy has both pcr11 and pcr11_signed: which one is meant?")]
    TwoWays {
        /// The image.
        image: String,
    },
    /// A window that is never open.
    #[error("image \"{image}\" of the policy has a window that is never open: not_before is not before not_after")]
    Window {
        /// The image.
        image: String,
    },
    /// A section of an image that cannot be meant.
    #[error("image \"{image}\" of the policy: {what}")]
    Section {
        /// The image.
        image: String,
        /// Which and why.
        what: String,
    },
    /// A firmware version that is no number.
    #[error("counters.firmware of the policy: \"{0}\" is not a hexadecimal number")]
    Firmware(String),
    /// Two images of the same name.
    #[error("the policy names image \"{0}\" twice")]
    Twice(String),
    /// Older than one that was accepted before.
    #[error(
        "the policy has counter {found}, but {highest} was accepted before: sign it again with a counter above {highest}"
    )]
    Rollback {
        /// Its counter.
        found: u64,
        /// The highest accepted so far.
        highest: u64,
    },
}

fn absent_hint(pcr: u8) -> &'static str {
    match pcr {
        4 | 9 => ": it may be left out only with both pcr11_signed and require_secure_boot",
        _ => "",
    }
}

impl Policy {
    /// A policy over images, without a name and with the lowest counter.
    pub fn of(images: Vec<Image>) -> Self {
        Self {
            version: VERSION,
            name: String::new(),
            counter: 1,
            require_guard: false,
            systemd_report: None,
            identity: all_identities(),
            counters: None,
            images,
        }
    }

    /// Reads and judges a policy.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > limits::POLICY {
            return Err(PolicyError::TooLarge { found: text.len() });
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::Malformed("not UTF-8".into()))?;
        let policy: Self = toml::from_str(text).map_err(|e| PolicyError::Malformed(one_line(&e.to_string())))?;
        policy.judge()?;
        Ok(policy)
    }

    /// Refuses a counter below the highest that was accepted before.
    pub fn check_counter(&self, highest: u64) -> Result<(), PolicyError> {
        if self.counter < highest {
            Err(PolicyError::Rollback {
                found: self.counter,
                highest,
            })
        } else {
            Ok(())
        }
    }

    /// The text of a policy.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a policy is a table of strings and numbers")
    }

    /// Refuses what accepts nothing, or more than its writer can have meant. [`Policy::parse`] has done it; programs that make a
    /// policy do it before they write one.
    pub fn judge(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version(self.version));
        }
        if self.images.is_empty() {
            return Err(PolicyError::Empty);
        }
        if self.identity.is_empty() {
            return Err(PolicyError::NoIdentity);
        }
        if let Some(version) = self.counters.as_ref().and_then(|rule| rule.malformed()) {
            return Err(PolicyError::Firmware(version.into()));
        }
        for (at, image) in self.images.iter().enumerate() {
            if self.images[..at].iter().any(|other| other.name == image.name) {
                return Err(PolicyError::Twice(image.name.clone()));
            }
            image.judge()?;
        }
        Ok(())
    }
}

/// A parser's message without its drawing of the place.
fn one_line(message: &str) -> String {
    message
        .lines()
        .filter(|l| !l.contains('|'))
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(any(test, feature = "testing"))]
pub(crate) fn sample(values: [u8; 5]) -> Policy {
    let value = |at: usize| vec![crate::bytes::Fixed([values[at]; 32]).into()];
    let image = Image {
        pcr4: value(0),
        pcr7: value(1),
        pcr9: value(2),
        pcr11: value(3),
        pcr12: value(4),
        ..Image::new("demo", Bank::Sha256)
    };
    Policy {
        name: "demo image".into(),
        counter: 3,
        ..Policy::of(vec![image])
    }
}

#[cfg(test)]
mod tests;
