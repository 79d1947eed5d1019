//! The Name of an object (Part 1, 16): the algorithm and digest of its public area, so it covers the key and every attribute.

use super::Hash;

/// nameAlg and digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// The Name of the object with this TPMT_PUBLIC.
    pub(crate) fn of(hash: Hash, area: &[u8]) -> Self {
        Self::from_digest(hash, hash.digest(&[area]).as_ref())
    }

    /// The Qualified Name (Part 1, 26.5) of an object with this Name right under the hierarchy `handle`.
    pub(crate) fn qualified_under(&self, hash: Hash, handle: u32) -> Self {
        Self::from_digest(hash, hash.digest(&[&handle.to_be_bytes(), &self.0]).as_ref())
    }

    fn from_digest(hash: Hash, digest: &[u8]) -> Self {
        Self([&hash.alg().to_be_bytes(), digest].concat())
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}
