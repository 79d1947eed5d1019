//! Hash algorithms that count (TPM_ALG_ID, Part 2, table 9): SHA-256 and SHA-384. SHA-1 has a number here only to be refused by name.

use aws_lc_rs::{digest, hmac};

use super::alg;
use super::wire::WireError;
use crate::pcr::Bank;

/// A hash algorithm that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Hash {
    /// The algorithm with this TPM_ALG_ID, when it counts.
    pub fn from_alg(id: u16) -> Option<Self> {
        match id {
            alg::SHA256 => Some(Self::Sha256),
            alg::SHA384 => Some(Self::Sha384),
            _ => None,
        }
    }

    /// Reads the field `what`.
    pub(crate) fn demand(what: &'static str, id: u16) -> Result<Self, WireError> {
        Self::from_alg(id).ok_or(WireError::Value {
            what,
            expected: alg::SHA256.into(),
            found: id.into(),
        })
    }

    /// Its TPM_ALG_ID.
    pub fn alg(self) -> u16 {
        match self {
            Self::Sha256 => alg::SHA256,
            Self::Sha384 => alg::SHA384,
        }
    }

    /// Bytes of a digest.
    #[expect(clippy::len_without_is_empty, reason = "a size, not a container's length")]
    pub fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The provider's algorithm.
    pub(crate) fn provider(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        }
    }

    pub(crate) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
        }
    }

    /// The digest of all `parts`, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> digest::Digest {
        let mut context = digest::Context::new(self.provider());
        for part in parts {
            context.update(part);
        }
        context.finish()
    }
}

/// A bank of registers is named by its hash.
impl From<Bank> for Hash {
    fn from(bank: Bank) -> Self {
        match bank {
            Bank::Sha256 => Self::Sha256,
            Bank::Sha384 => Self::Sha384,
        }
    }
}

impl From<Hash> for Bank {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::Sha256 => Self::Sha256,
            Hash::Sha384 => Self::Sha384,
        }
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        })
    }
}

/// What people call the algorithm with this TPM_ALG_ID.
pub(crate) fn name_of(id: u16) -> &'static str {
    match id {
        alg::SHA1 => "sha1",
        alg::SHA256 => "sha256",
        alg::SHA384 => "sha384",
        alg::SHA512 => "sha512",
        0x0012 => "sm3_256",
        0x0027..=0x0029 => "sha3",
        _ => "an unknown bank",
    }
}
