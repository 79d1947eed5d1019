//! Own vendors for tests: roots, intermediates, keys, revocation lists, reports and quotes of the vendors' forms, with every field
//! free to be wrong. Behind the feature `testing`; what it makes counts only where a Verifier's configuration names its root.

mod der;
/// SEV-SNP.
pub mod snp;
/// TDX.
pub mod tdx;

/// A time at which all test certificates count.
pub const NOW: u64 = 1_800_000_000;
/// A day.
const DAY: u64 = 86_400;
