//! Processor generations. Each has a root key, a set of models and a layout of TCB_VERSION of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A generation of EPYC that has SEV-SNP and a published root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004; Bergamo and Siena are endorsed as Genoa.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Generation {
    /// All, oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// As AMD writes it in certificates and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// From AMD's name, which may carry a stepping: `Milan-B0`.
    pub fn from_product(product: &str) -> Option<Self> {
        let line = product.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|g| g.name() == line)
    }

    /// From CPUID_FAM_ID and CPUID_MOD_ID of a report (family and model with their extensions added).
    pub fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// Bytes of CHIP_ID that identify the chip; the rest is zero (57230, hwID).
    pub fn chip_id_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
