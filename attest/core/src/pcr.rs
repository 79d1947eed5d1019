//! Platform Configuration Registers (TPM 2.0 Part 1, 17) in the SHA-256 bank: which are quoted, which are judged, how one is extended.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use crate::bytes::Fixed;

/// A PCR's value in the SHA-256 bank.
pub type PcrValue = Fixed<32>;

/// Every quote selects exactly these, in this order; 15 (machine identity), 16 and 23 (resettable) are never judged.
pub const QUOTED: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/// Every policy must judge these: boot loader code (4), Secure Boot (7), kernel arguments and initrd as handed over (9),
/// the UKI's parts and boot phases (11), configuration from outside the image (12).
pub const JUDGED: [u8; 5] = [4, 7, 9, 11, 12];

/// PCR values by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pcrs(pub BTreeMap<u8, PcrValue>);

impl Pcrs {
    /// The value of PCR `index`, if it is there.
    pub fn value(&self, index: u8) -> Option<PcrValue> {
        self.0.get(&index).copied()
    }

    /// Extends PCR `index` by `digest`; a register that was not there starts from zeros.
    pub fn extend(&mut self, index: u8, digest: &PcrValue) {
        let register = self.0.entry(index).or_insert(Fixed::ZERO);
        *register = extended(register, digest);
    }

    /// SHA-256 over the values in index order, as TPM2_Quote computes it (Part 2, 10.12.1).
    pub fn digest(&self) -> PcrValue {
        let mut context = digest::Context::new(&digest::SHA256);
        for value in self.0.values() {
            context.update(&value.0);
        }
        Fixed::try_from(context.finish().as_ref()).expect("SHA-256 has 32 bytes")
    }
}

impl FromIterator<(u8, PcrValue)> for Pcrs {
    fn from_iter<I: IntoIterator<Item = (u8, PcrValue)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// The value of a register `old` after one extend by `digest`.
pub fn extended(old: &PcrValue, digest: &PcrValue) -> PcrValue {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(&old.0);
    joined[32..].copy_from_slice(&digest.0);
    crate::bytes::sha256(&joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extending_starts_from_zeros_and_chains() {
        let mut pcrs = Pcrs::default();
        pcrs.extend(11, &Fixed([1; 32]));
        let once = pcrs.value(11).expect("extended");
        assert_eq!(once, extended(&Fixed::ZERO, &Fixed([1; 32])));
        pcrs.extend(11, &Fixed([1; 32]));
        assert_ne!(pcrs.value(11), Some(once));
    }
}
