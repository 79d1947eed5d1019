//! TPM 2.0 structures (TCG TPM 2.0 Library, Part 2) as far as a Verifier needs them, in software: no TPM is touched here.
//! One file per structure; every parser takes the whole buffer and refuses what is left over.

/// TPMS_ATTEST: what every attestation has in common.
pub mod attest;
/// TPMS_CERTIFY_INFO, and the TLS key that a TPM certifies as its own.
pub mod certify;
/// Reset and restart counters, clock and firmware version: how two attestations of one node continue each other.
pub mod counters;
/// TPM2_MakeCredential.
pub mod credential;
/// Hash algorithms that count.
pub mod hash;
/// A public key in the form that X.509 has.
pub mod key;
/// The Name of an object.
pub mod name;
/// TPMT_PUBLIC of AK, EK and TLS key, and the rules for their attributes.
pub mod public;
/// TPMS_ATTEST of a quote.
pub mod quote;
/// TPMT_SIGNATURE over an attestation.
pub mod signature;
pub(crate) mod wire;

pub use hash::Hash;
pub use key::{KeyKind, PublicKey};
pub use name::Name;
pub use public::{AkPublic, EkPublic};
pub use quote::Quote;
pub use wire::WireError;

/// TPM_ALG_ID values (Part 2, table 9).
pub(crate) mod alg {
    pub const RSA: u16 = 0x0001;
    pub const SHA1: u16 = 0x0004;
    pub const AES: u16 = 0x0006;
    pub const SHA256: u16 = 0x000b;
    pub const SHA384: u16 = 0x000c;
    pub const SHA512: u16 = 0x000d;
    pub const NULL: u16 = 0x0010;
    pub const RSASSA: u16 = 0x0014;
    pub const RSAPSS: u16 = 0x0016;
    pub const ECDSA: u16 = 0x0018;
    pub const ECC: u16 = 0x0023;
    pub const CFB: u16 = 0x0043;
    /// TPM_ECC_NIST_P256 (Part 2, table 10).
    pub const P256: u16 = 0x0003;
    /// TPM_ECC_NIST_P384.
    pub const P384: u16 = 0x0004;
}
