//! Platform Configuration Registers (TPM 2.0 Part 1, 17): which bank is quoted, which registers are quoted and judged, how one is extended.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bytes::{Blob, Fixed};

/// A bank of registers, named by its hash (TCG Algorithm Registry). SHA-1 is not among them: collisions are cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bank {
    /// TPM_ALG_SHA256.
    #[default]
    Sha256,
    /// TPM_ALG_SHA384.
    Sha384,
}

/// A digest of one of the banks: a register's value, or what one is extended by. Hex for people, bytes in CBOR; its length tells its bank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// 32 bytes.
    Sha256(Fixed<32>),
    /// 48 bytes.
    Sha384(Fixed<48>),
}

/// A PCR's value.
pub type PcrValue = Digest;

/// Every quote selects exactly these, in this order; 15 (machine identity), 16 and 23 (resettable) are never judged.
pub const QUOTED: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/// Every policy must judge these: boot loader code (4), Secure Boot (7), kernel arguments and initrd as handed over (9),
/// the UKI's parts and boot phases (11), configuration from outside the image (12).
pub const JUDGED: [u8; 5] = [4, 7, 9, 11, 12];

impl Bank {
    /// TPM_ALG_ID (TCG Algorithm Registry, table 3).
    pub fn tpm_alg(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// The bank of a TPM_ALG_ID; `None` for what is not accepted.
    pub fn from_tpm_alg(alg: u16) -> Option<Self> {
        [Self::Sha256, Self::Sha384].into_iter().find(|b| b.tpm_alg() == alg)
    }

    /// Digest size, bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// As in policies and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// The value of a register that was never extended.
    pub fn zero(self) -> Digest {
        match self {
            Self::Sha256 => Digest::Sha256(Fixed::ZERO),
            Self::Sha384 => Digest::Sha384(Fixed::ZERO),
        }
    }

    /// The bank's hash over the parts, one after the other.
    pub fn hash(self, parts: &[&[u8]]) -> Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        };
        let hash = match parts {
            // Without a context, which would be allocated: a replay hashes each event.
            [part] => digest::digest(algorithm, part),
            parts => {
                let mut context = digest::Context::new(algorithm);
                parts.iter().for_each(|part| context.update(part));
                context.finish()
            }
        };
        Digest::from_bytes(hash.as_ref()).expect("a hash has its own length")
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Digest {
    /// A digest of whichever bank has this length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            32 => Fixed::try_from(bytes).ok().map(Self::Sha256),
            48 => Fixed::try_from(bytes).ok().map(Self::Sha384),
            _ => None,
        }
    }

    /// Reads 64 or 96 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        match text.len() {
            64 => Fixed::from_hex(text).map(Self::Sha256),
            96 => Fixed::from_hex(text).map(Self::Sha384),
            _ => None,
        }
    }

    /// Its bank.
    pub fn bank(&self) -> Bank {
        match self {
            Self::Sha256(_) => Bank::Sha256,
            Self::Sha384(_) => Bank::Sha384,
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(d) => &d.0,
            Self::Sha384(d) => &d.0,
        }
    }
}

impl From<Fixed<32>> for Digest {
    fn from(digest: Fixed<32>) -> Self {
        Self::Sha256(digest)
    }
}

impl From<Fixed<48>> for Digest {
    fn from(digest: Fixed<48>) -> Self {
        Self::Sha384(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sha256(d) => d.serialize(to),
            Self::Sha384(d) => d.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("a digest has 32 or 48 bytes (64 or 96 hex digits)");
        if from.is_human_readable() {
            Self::from_hex(&String::deserialize(from)?).ok_or_else(wrong)
        } else {
            Self::from_bytes(&Blob::deserialize(from)?.0).ok_or_else(wrong)
        }
    }
}

/// PCR values of one bank by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pcrs {
    /// The bank of all of them.
    pub bank: Bank,
    /// Index to value.
    pub values: BTreeMap<u8, PcrValue>,
}

impl Pcrs {
    /// No register yet.
    pub fn new(bank: Bank) -> Self {
        Self {
            bank,
            values: BTreeMap::new(),
        }
    }

    /// The value of PCR `index`, if it is there.
    pub fn value(&self, index: u8) -> Option<PcrValue> {
        self.values.get(&index).copied()
    }

    /// Extends PCR `index` by `digest`; a register that was not there starts from zeros.
    pub fn extend(&mut self, index: u8, digest: &PcrValue) {
        let register = self.values.entry(index).or_insert(self.bank.zero());
        *register = extended(register, digest);
    }

    /// `hash` over the values in index order, as TPM2_Quote computes it (Part 2, 10.12.1): the hash is that of the signing scheme,
    /// whatever the bank.
    pub fn digest(&self, hash: Bank) -> Digest {
        let parts: Vec<&[u8]> = self.values.values().map(Digest::as_bytes).collect();
        hash.hash(&parts)
    }

    /// Values of one bank; `None` when an index stands twice or a value is of another bank.
    pub fn collect(bank: Bank, values: impl IntoIterator<Item = (u8, PcrValue)>) -> Option<Self> {
        let mut pcrs = Self::new(bank);
        for (index, value) in values {
            if value.bank() != bank || pcrs.values.insert(index, value).is_some() {
                return None;
            }
        }
        Some(pcrs)
    }
}

/// The value of a register `old` after one extend by `digest`.
pub fn extended(old: &PcrValue, digest: &PcrValue) -> PcrValue {
    let (old_bytes, new_bytes) = (old.as_bytes(), digest.as_bytes());
    let mut joined = [0; 2 * 48];
    let len = old_bytes.len() + new_bytes.len();
    joined[..old_bytes.len()].copy_from_slice(old_bytes);
    joined[old_bytes.len()..len].copy_from_slice(new_bytes);
    old.bank().hash(&[&joined[..len]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extending_starts_from_zeros_and_chains() {
        for bank in [Bank::Sha256, Bank::Sha384] {
            let one = bank.hash(&[b"1"]);
            let mut pcrs = Pcrs::new(bank);
            pcrs.extend(11, &one);
            let once = pcrs.value(11).expect("extended");
            assert_eq!(once, extended(&bank.zero(), &one));
            pcrs.extend(11, &one);
            assert_ne!(pcrs.value(11), Some(once));
        }
    }

    #[test]
    fn a_digest_tells_its_bank_by_its_length_and_no_other_length_is_one() {
        for bank in [Bank::Sha256, Bank::Sha384] {
            let digest = bank.hash(&[b"x"]);
            assert_eq!((digest.bank(), digest.as_bytes().len()), (bank, bank.size()));
            assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
            assert_eq!(Bank::from_tpm_alg(bank.tpm_alg()), Some(bank));
        }
        assert_eq!(Digest::from_bytes(&[0; 20]), None);
        assert_eq!(Digest::from_hex(&"00".repeat(20)), None);
        assert_eq!(Bank::from_tpm_alg(0x0004), None, "SHA-1");
    }
}
