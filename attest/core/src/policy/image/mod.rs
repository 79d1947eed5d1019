//! One image that may boot, in all its registers, and every reason why a node is not in it. Closed by default: what the image does
//! not accept by value, by signature or by an explicit demand for Secure Boot is a failure.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::PolicyError;
use super::event::Part;
use super::instant::Instant;
use super::release::{self, Pcr11Signed, SignedError};
use crate::eventlog::Event;
use crate::eventlog::ima::ImaRule;
use crate::finding::Finding;
use crate::pcr::{Bank, JUDGED, PcrValue, Pcrs};

/// Registers that a policy can judge: all quoted ones but 10, which grows with each file that IMA measures.
pub const REGISTERS: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];
/// Registers that need no value where PCR 11 is signed and Secure Boot is demanded: both change with each image, and then the
/// firmware has verified who made the image before it ran (7), and what it was started with is in 11 and 12.
const LEFT_TO_SECURE_BOOT: [u8; 2] = [4, 9];

/// One image that may boot. A node must match one image in all registers, not one here and another there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// For people and logs.
    pub name: String,
    /// Bank of all its values.
    #[serde(default)]
    pub bank: Bank,
    /// Not accepted before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Instant>,
    /// Not accepted after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Instant>,
    /// Demands that the firmware verified what it started: PCR 7 begins with SecureBoot = 1.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require_secure_boot: bool,
    /// The kernel command line, only to explain a mismatch; never compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// What `predict` was told to accept although it is dangerous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_risks: Vec<String>,
    /// Firmware code; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr0: Vec<PcrValue>,
    /// Firmware configuration, ACPI tables; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr1: Vec<PcrValue>,
    /// Option ROMs and drivers that the host adds; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr2: Vec<PcrValue>,
    /// Their configuration; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr3: Vec<PcrValue>,
    /// Boot manager code and its actions.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr4: Vec<PcrValue>,
    /// Boot manager configuration, partition table; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr5: Vec<PcrValue>,
    /// The platform's maker's own; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr6: Vec<PcrValue>,
    /// Secure Boot state and keys.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr7: Vec<PcrValue>,
    /// A boot loader's commands (GRUB); judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr8: Vec<PcrValue>,
    /// Kernel command line and initrd as handed over.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr9: Vec<PcrValue>,
    /// The image's parts, one value for each accepted boot phase.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr11: Vec<PcrValue>,
    /// Configuration from outside the image: zeros.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr12: Vec<PcrValue>,
    /// System extensions from outside the image: zeros; judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr13: Vec<PcrValue>,
    /// Machine owner keys (shim); judged when present.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub pcr14: Vec<PcrValue>,
    /// What the registers are extended by, to explain a mismatch; never judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Part>,
    /// In place of `pcr11`: values that a release key signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr11_signed: Option<Pcr11Signed>,
    /// Demands SEV-SNP, and says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<crate::tee::snp::Policy>,
    /// Demands TDX, and says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<crate::tee::tdx::Policy>,
    /// Which files IMA may have measured; without it PCR 10 is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ima: Option<ImaRule>,
}

/// A list that is there has a value: an empty one would read like "nothing is accepted" and mean "not judged".
fn values<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PcrValue>, D::Error> {
    let values = Vec::deserialize(from)?;
    if values.is_empty() {
        return Err(de::Error::custom(
            "a register's list of values is empty: name a value, or leave the register out",
        ));
    }
    Ok(values)
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What an image is compared with: a node's verified registers and logs, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Quoted registers.
    pub pcrs: &'a Pcrs,
    /// Both logs' events.
    pub events: &'a [Event],
    /// The .pcrsig that the node handed over.
    pub pcr_signatures: &'a [u8],
    /// The os-release that the node handed over.
    pub os_release: &'a [u8],
    /// Unix seconds.
    pub now: u64,
}

/// One reason why a node is not in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is too early or too late for this image.
    Window(Instant),
    /// The node quoted another bank.
    Bank(Bank),
    /// A register has none of the accepted values.
    Pcr(u8),
    /// Secure Boot is demanded and was not on.
    SecureBoot,
    /// PCR 11 is not one that the release key signed, or too old.
    Signed(SignedError),
}

impl Image {
    /// An image that accepts nothing yet.
    pub fn new(name: impl Into<String>, bank: Bank) -> Self {
        Self {
            name: name.into(),
            bank,
            ..Self::default()
        }
    }

    /// The accepted values of a register; nothing is accepted for one that no policy judges.
    pub fn accepted(&self, pcr: u8) -> &[PcrValue] {
        match pcr {
            0 => &self.pcr0,
            1 => &self.pcr1,
            2 => &self.pcr2,
            3 => &self.pcr3,
            4 => &self.pcr4,
            5 => &self.pcr5,
            6 => &self.pcr6,
            7 => &self.pcr7,
            8 => &self.pcr8,
            9 => &self.pcr9,
            11 => &self.pcr11,
            12 => &self.pcr12,
            13 => &self.pcr13,
            14 => &self.pcr14,
            _ => &[],
        }
    }

    /// The list behind [`Image::accepted`]; none for a register that no policy judges.
    pub fn accepted_mut(&mut self, pcr: u8) -> Option<&mut Vec<PcrValue>> {
        Some(match pcr {
            0 => &mut self.pcr0,
            1 => &mut self.pcr1,
            2 => &mut self.pcr2,
            3 => &mut self.pcr3,
            4 => &mut self.pcr4,
            5 => &mut self.pcr5,
            6 => &mut self.pcr6,
            7 => &mut self.pcr7,
            8 => &mut self.pcr8,
            9 => &mut self.pcr9,
            11 => &mut self.pcr11,
            12 => &mut self.pcr12,
            13 => &mut self.pcr13,
            14 => &mut self.pcr14,
            _ => return None,
        })
    }

    /// Whether a register may go without a value in this image.
    fn may_be_absent(&self, pcr: u8) -> bool {
        let signed = self.pcr11_signed.is_some();
        match pcr {
            release::PCR => signed,
            _ if LEFT_TO_SECURE_BOOT.contains(&pcr) => signed && self.require_secure_boot,
            _ => !JUDGED.contains(&pcr),
        }
    }

    /// Names of its sections, which judge more than registers.
    pub fn sections(&self) -> Vec<&'static str> {
        let there = [
            ("snp", self.snp.is_some()),
            ("tdx", self.tdx.is_some()),
            ("ima", self.ima.is_some()),
        ];
        there
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| name)
            .collect()
    }

    /// The registers that are compared with values, in order.
    pub fn judged(&self) -> impl Iterator<Item = u8> {
        REGISTERS
            .into_iter()
            .filter(|pcr| !(self.may_be_absent(*pcr) && self.accepted(*pcr).is_empty()))
    }

    /// Refuses an image that would accept more than its writer can have meant.
    pub(super) fn judge(&self) -> Result<(), PolicyError> {
        let image = || self.name.clone();
        if let Some(pcr) = self.judged().find(|pcr| self.accepted(*pcr).is_empty()) {
            return Err(PolicyError::NoValue { image: image(), pcr });
        }
        let other_bank = |pcr: &u8| self.accepted(*pcr).iter().any(|value| value.bank() != self.bank);
        if let Some(pcr) = self.judged().find(other_bank) {
            return Err(PolicyError::OtherBank {
                image: image(),
                pcr,
                bank: self.bank,
            });
        }
        let mut revoked = self.pcr11_signed.iter().flat_map(|signed| &signed.revoked);
        if revoked.any(|value| value.bank() != self.bank) {
            return Err(PolicyError::OtherBank {
                image: image(),
                pcr: release::PCR,
                bank: self.bank,
            });
        }
        if self.pcr11_signed.is_some() && !self.pcr11.is_empty() {
            return Err(PolicyError::TwoWays { image: image() });
        }
        if matches!((self.not_before, self.not_after), (Some(from), Some(until)) if from >= until) {
            return Err(PolicyError::Window { image: image() });
        }
        let sections = [
            self.snp.as_ref().map(crate::tee::snp::Policy::judge),
            self.tdx.as_ref().map(crate::tee::tdx::Policy::judge),
            self.ima.as_ref().map(ImaRule::judge),
        ];
        match sections.into_iter().flatten().find_map(Result::err) {
            Some(what) => Err(PolicyError::Section { image: image(), what }),
            None => Ok(()),
        }
    }

    /// Every reason why a node is not in this image; none when it is.
    pub fn failures(&self, claims: &Claims<'_>) -> Vec<Failure> {
        let mut failures: Vec<Failure> = [self.in_window(claims), self.in_bank(claims)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        if self.in_bank(claims).is_err() {
            return failures; // Values of two banks cannot be compared.
        }
        failures.extend(self.mismatches(claims.pcrs).into_iter().map(Failure::Pcr));
        failures.extend(self.secure_boot_was_on(claims).err());
        failures.extend(self.is_released(claims));
        failures
    }

    /// The registers whose value is none of the accepted ones.
    pub fn mismatches(&self, pcrs: &Pcrs) -> Vec<u8> {
        let accepts = |pcr: u8| pcrs.value(pcr).is_some_and(|value| self.accepted(pcr).contains(&value));
        self.judged().filter(|pcr| !accepts(*pcr)).collect()
    }

    fn in_window(&self, claims: &Claims<'_>) -> Result<(), Failure> {
        let now = Instant(claims.now);
        let open = self.not_before.is_none_or(|from| from <= now) && self.not_after.is_none_or(|until| now <= until);
        if open { Ok(()) } else { Err(Failure::Window(now)) }
    }

    fn in_bank(&self, claims: &Claims<'_>) -> Result<(), Failure> {
        if claims.pcrs.bank == self.bank {
            Ok(())
        } else {
            Err(Failure::Bank(claims.pcrs.bank))
        }
    }

    fn secure_boot_was_on(&self, claims: &Claims<'_>) -> Result<(), Failure> {
        if !self.require_secure_boot || super::predict::registers::starts_with_secure_boot(self.bank, claims.events) {
            Ok(())
        } else {
            Err(Failure::SecureBoot)
        }
    }

    fn is_released(&self, claims: &Claims<'_>) -> Vec<Failure> {
        let Some(signed) = &self.pcr11_signed else {
            return vec![];
        };
        let claims = release::Claims {
            pcrs: claims.pcrs,
            events: claims.events,
            signatures: claims.pcr_signatures,
            os_release: claims.os_release,
        };
        signed.failures(&claims).into_iter().map(Failure::Signed).collect()
    }

    /// The window in words; none when it is always open.
    pub fn window(&self) -> Option<String> {
        let from = self.not_before.map(|t| format!("from {t}"));
        let until = self.not_after.map(|t| format!("until {t}"));
        let words: Vec<_> = [from, until].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl Failure {
    /// In words, for node `node`; none for [`Failure::Pcr`], which is explained from the logs.
    pub fn finding(&self, node: &str, image: &Image) -> Option<Finding> {
        let name = &image.name;
        Some(match self {
            Self::Pcr(_) => return None,
            Self::Window(now) => Finding::new(
                "window",
                node,
                format!("image \"{name}\" is not accepted at this time"),
                "boot an image whose window is open, or sign a policy with another window",
            )
            .expected(image.window().unwrap_or_default())
            .found(now.to_string()),
            Self::Bank(found) => Finding::new(
                "bank",
                node,
                format!("image \"{name}\" has values of another PCR bank than the node quoted"),
                "set the node's bank, or predict and sign a policy for this bank",
            )
            .expected(image.bank.to_string())
            .found(found.to_string()),
            Self::SecureBoot => Finding::new(
                "secure-boot",
                node,
                format!("image \"{name}\" demands Secure Boot and the firmware did not measure it as on"),
                "switch Secure Boot on in the firmware",
            )
            .pcr(7)
            .expected("SecureBoot = 1 before the first separator"),
            Self::Signed(why) => why.finding(node, name),
        })
    }
}

#[cfg(test)]
mod tests;
