//! Reference Values: which images a node may boot, by PCR values. A policy is TOML, signed (`signature`) and counted, so that an
//! older one never replaces a newer one. Empty means refused, unknown keys mean refused.

/// Computing reference values from an image, before it ever boots.
pub mod predict;
/// Who may sign a policy.
pub mod signature;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::pcr::{Bank, JUDGED, PcrValue, Pcrs};

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
    /// What may boot.
    #[serde(rename = "image")]
    pub images: Vec<Image>,
}

/// One image that may boot. A node must match one image in all registers, not one here and another there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// For people and logs.
    pub name: String,
    /// Bank of all its values.
    #[serde(default)]
    pub bank: Bank,
    /// The kernel command line, only to explain a mismatch; never compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// What `predict` was told to accept although it is dangerous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_risks: Vec<String>,
    /// Boot manager code and its actions.
    pub pcr4: Vec<PcrValue>,
    /// Secure Boot state and keys.
    pub pcr7: Vec<PcrValue>,
    /// Kernel command line and initrd as handed over.
    pub pcr9: Vec<PcrValue>,
    /// The image's parts, one value for each accepted boot phase.
    pub pcr11: Vec<PcrValue>,
    /// Configuration from outside the image: zeros.
    pub pcr12: Vec<PcrValue>,
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
    /// A register without a value.
    #[error("image \"{image}\" of the policy has no value for PCR {pcr}")]
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

impl Policy {
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

    fn judge(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version(self.version));
        }
        if self.images.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (at, image) in self.images.iter().enumerate() {
            if self.images[..at].iter().any(|other| other.name == image.name) {
                return Err(PolicyError::Twice(image.name.clone()));
            }
            if let Some(pcr) = JUDGED.into_iter().find(|pcr| image.accepted(*pcr).is_empty()) {
                return Err(PolicyError::NoValue {
                    image: image.name.clone(),
                    pcr,
                });
            }
            let other = |pcr: &u8| image.accepted(*pcr).iter().any(|value| value.bank() != image.bank);
            if let Some(pcr) = JUDGED.into_iter().find(other) {
                return Err(PolicyError::OtherBank {
                    image: image.name.clone(),
                    pcr,
                    bank: image.bank,
                });
            }
        }
        Ok(())
    }
}

impl Image {
    /// The accepted values of a judged register; nothing is accepted for any other.
    pub fn accepted(&self, pcr: u8) -> &[PcrValue] {
        match pcr {
            4 => &self.pcr4,
            7 => &self.pcr7,
            9 => &self.pcr9,
            11 => &self.pcr11,
            12 => &self.pcr12,
            _ => &[],
        }
    }

    /// The judged registers in which `pcrs` differs from this image.
    pub fn mismatches(&self, pcrs: &Pcrs) -> Vec<u8> {
        let accepts = |pcr: u8| pcrs.value(pcr).is_some_and(|value| self.accepted(pcr).contains(&value));
        JUDGED.into_iter().filter(|pcr| !accepts(*pcr)).collect()
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

#[cfg(test)]
pub(crate) fn sample(values: [u8; 5]) -> Policy {
    let value = |at: usize| vec![crate::bytes::Fixed([values[at]; 32]).into()];
    let image = Image {
        name: "demo".into(),
        bank: Bank::Sha256,
        cmdline: None,
        accepted_risks: vec![],
        pcr4: value(0),
        pcr7: value(1),
        pcr9: value(2),
        pcr11: value(3),
        pcr12: value(4),
    };
    Policy {
        version: VERSION,
        name: "demo image".into(),
        counter: 3,
        require_guard: false,
        images: vec![image],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_the_way_to_text_and_back() {
        let policy = sample([4, 7, 9, 11, 0]);
        assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy));
    }

    #[test]
    fn an_empty_policy_is_refused() {
        assert!(Policy::parse(b"").is_err());
        assert_eq!(
            Policy::parse(b"version = 1\nname = \"x\"\ncounter = 1\nimage = []\n"),
            Err(PolicyError::Empty)
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let text = format!("colour = \"red\"\n{}", sample([1; 5]).to_toml());
        assert!(matches!(Policy::parse(text.as_bytes()), Err(PolicyError::Malformed(m)) if m.contains("colour")));
        let text = sample([1; 5]).to_toml() + "pcr14 = []\n";
        assert!(matches!(Policy::parse(text.as_bytes()), Err(PolicyError::Malformed(m)) if m.contains("pcr14")));
    }

    #[test]
    fn a_missing_or_empty_register_is_refused_by_number() {
        for pcr in JUDGED {
            let mut policy = sample([1; 5]);
            let image = &mut policy.images[0];
            let list = match pcr {
                4 => &mut image.pcr4,
                7 => &mut image.pcr7,
                9 => &mut image.pcr9,
                11 => &mut image.pcr11,
                _ => &mut image.pcr12,
            };
            list.clear();
            assert_eq!(
                Policy::parse(policy.to_toml().as_bytes()),
                Err(PolicyError::NoValue {
                    image: "demo".into(),
                    pcr
                })
            );
            let without: String = policy
                .to_toml()
                .lines()
                .filter(|l| !l.starts_with(&format!("pcr{pcr} ")))
                .fold(String::new(), |t, l| t + l + "\n");
            assert!(matches!(
                Policy::parse(without.as_bytes()),
                Err(PolicyError::Malformed(_))
            ));
        }
    }

    #[test]
    fn an_older_counter_is_refused_and_the_same_one_is_not() {
        let policy = sample([1; 5]);
        assert_eq!(policy.check_counter(3), Ok(()));
        assert_eq!(
            policy.check_counter(4),
            Err(PolicyError::Rollback { found: 3, highest: 4 })
        );
    }
}
