//! TPM 2.0 structures (TCG TPM 2.0 Library, Part 2) as far as a Verifier needs them, in software: no TPM is touched here.
//! One file per structure; every parser takes the whole buffer and refuses what is left over.

/// TPMS_ATTEST of a quote.
pub mod attest;
/// TPM2_MakeCredential.
pub mod credential;
/// TPMT_PUBLIC of AK and EK, and the rules for their attributes; the Name of an object.
pub mod public;
/// TPMT_SIGNATURE over a quote.
pub mod signature;
pub(crate) mod wire;

pub use attest::Quote;
pub use public::{AkPublic, EkPublic};
pub use wire::WireError;

/// TPM_ALG_ID values (Part 2, table 9).
pub(crate) mod alg {
    pub const RSA: u16 = 0x0001;
    pub const AES: u16 = 0x0006;
    pub const SHA256: u16 = 0x000b;
    pub const NULL: u16 = 0x0010;
    pub const ECDSA: u16 = 0x0018;
    pub const ECC: u16 = 0x0023;
    pub const CFB: u16 = 0x0043;
    /// TPM_ECC_NIST_P256 (Part 2, table 10).
    pub const P256: u16 = 0x0003;
}
