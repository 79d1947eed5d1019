//! How sure it is whose TPM a node has (identity level of its endorsement key), as the Verifier's registry knows it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the trust in an endorsement key comes from, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Its certificate leads to a manufacturer's root that the operator installed.
    Certified,
    /// The operator listed it beforehand.
    Listed,
    /// First use, approved by the operator afterwards.
    Approved,
    /// First use, approved by nobody.
    FirstUse,
}

impl Identity {
    /// All levels.
    pub const ALL: [Self; 4] = [Self::Certified, Self::Listed, Self::Approved, Self::FirstUse];

    /// The level with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.to_string() == word)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certified => "certified",
            Self::Listed => "listed",
            Self::Approved => "approved",
            Self::FirstUse => "first-use",
        })
    }
}
