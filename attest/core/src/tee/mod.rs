//! Trusted execution environments that measure and encrypt a whole machine.
//!
//! Adding one: a folder beside `snp` that parses the report, verifies it up to the vendor's pinned root and appraises it under a
//! policy section of its own; a variant of [`TeeKind`] with its name. Nothing in here reads a clock, a file or the network.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which environment made a report. The name stands in Evidence, in policies and in results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
}

impl TeeKind {
    /// Every environment that is known.
    pub const ALL: [Self; 2] = [Self::SevSnp, Self::Tdx];

    /// As in Evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By which way the node got its report. The node's word, except that `vtpm-nv` changes what the report is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeProvider {
    /// /sys/kernel/config/tsm/report.
    ConfigfsTsm,
    /// /dev/sev-guest.
    SevGuest,
    /// An NV index of the virtual TPM that a paravisor fills at boot (Azure).
    VtpmNv,
    /// A file, for tests: every production policy refuses it.
    File,
}

impl TeeProvider {
    /// As in Evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigfsTsm => "configfs-tsm",
            Self::SevGuest => "sev-guest",
            Self::VtpmNv => "vtpm-nv",
            Self::File => "file",
        }
    }
}

impl fmt::Display for TeeProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_evidence_are_the_shown_ones() {
        for kind in TeeKind::ALL {
            assert_eq!(serde_json::to_string(&kind).expect("json"), format!("\"{kind}\""));
        }
        for provider in [
            TeeProvider::ConfigfsTsm,
            TeeProvider::SevGuest,
            TeeProvider::VtpmNv,
            TeeProvider::File,
        ] {
            assert_eq!(
                serde_json::to_string(&provider).expect("json"),
                format!("\"{provider}\"")
            );
        }
    }
}
