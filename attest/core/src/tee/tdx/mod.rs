//! Intel TDX by DCAP quotes. Specifications: Intel TDX DCAP Quoting Library API (quote formats 4 and 5, appendix A), SGX PCK
//! Certificate and CRL Specification, and Intel's Provisioning Certification Service, version 4 (TCB info, QE identity).
//!
//! The quote is signed by an attestation key; the quoting enclave's report commits to that key; the platform's PCK signs that
//! report; the PCK's chain, which travels in the quote, ends in Intel's root. Intel's signed TCB info says how old the platform is.

/// Verified quotes against `[image.tdx]`.
pub mod appraise;
mod chain;
/// Intel's signed statements on platforms and quoting enclaves.
pub mod collateral;
/// What Intel says of a PCK.
pub mod pck;
mod policy;
mod quote;
/// How old a platform is, by Intel's TCB info.
pub mod tcb;

#[cfg(any(test, feature = "testing"))]
pub(crate) use chain::QE_SIGNER;
pub use chain::{VerifiedQuote, verify};
pub use collateral::Collateral;
pub use policy::Policy;
pub use quote::{Body, Quote, QuoteError};
pub use tcb::TcbStatus;

#[cfg(test)]
mod tests;
