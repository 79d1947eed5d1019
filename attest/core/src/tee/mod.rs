//! Trusted execution environments that measure and encrypt a whole machine: what their reports say, who endorsed the key that
//! signed them, and whether a policy likes it. Nothing in here reads a clock, a file or the network.
//!
//! Adding one (`snp` is the example):
//! 1. a variant of [`TeeKind`] with its name in Evidence;
//! 2. a folder: the report with its offsets in the specification, the chain from its key to the vendor's root, a `policy` that is a
//!    section of an image in a policy file, and an `appraise` with one function and one finding for each demand;
//! 3. the root's digest in `roots`, a variant of [`verify::Content`], an arm in [`verify::verify`] and in [`appraise::appraise`];
//! 4. in `testing`, a maker of own roots, keys and reports: the table of negative cases in `tests` runs over it.
//!
//! Two rules hold for all: a report counts only with a root that is pinned for its environment and generation, and one under a
//! root of the Verifier's own (a test's) only where the policy says so.

/// Verified reports against an image's sections.
pub mod appraise;
/// Revocation lists.
pub mod crl;
/// The vendors' root keys.
pub mod roots;
/// AMD SEV-SNP.
pub mod snp;
/// Intel TDX.
pub mod tdx;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
/// Signatures, chain, freshness, binding.
pub mod verify;
/// Reports that a paravisor keeps in the virtual TPM.
pub mod vtpm;
mod x509;

pub use appraise::{Sections, appraise};
pub use roots::{Origin, Roots};
pub use verify::{Content, Endorsements, Freshness, Summary, Vek, VerifiedTee, verify};

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
mod tests;
