//! TPM2B_PUBLIC of the keys of an attestation (Part 2, 12.2): one parser for the structure (`area`), and for each key a file with the
//! rules for its attributes. Attributes are believed only because something binds the Name, which covers them: credential activation
//! for the AK, TPM2_Certify for the TLS key, a certificate or an operator for the EK.

/// The attestation key.
pub mod ak;
/// TPMT_PUBLIC.
pub(crate) mod area;
/// The endorsement key.
pub mod ek;
/// The key that a node's TLS client certificate is for.
pub mod tls;

pub use ak::AkPublic;
pub use ek::EkPublic;

use super::key::KeyKind;
use super::wire::WireError;

/// TPMA_OBJECT bits (Part 2, 8.3).
pub(crate) mod attribute {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const ST_CLEAR: u32 = 1 << 2;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub const NO_DA: u32 = 1 << 10;
    pub const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;
    pub const X509_SIGN: u32 = 1 << 19;
    pub const NAMES: [(u32, &str); 12] = [
        (FIXED_TPM, "fixedTPM"),
        (ST_CLEAR, "stClear"),
        (FIXED_PARENT, "fixedParent"),
        (SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (USER_WITH_AUTH, "userWithAuth"),
        (ADMIN_WITH_POLICY, "adminWithPolicy"),
        (NO_DA, "noDA"),
        (ENCRYPTED_DUPLICATION, "encryptedDuplication"),
        (RESTRICTED, "restricted"),
        (DECRYPT, "decrypt"),
        (SIGN, "sign"),
        (X509_SIGN, "x509sign"),
    ];
    /// Bits without a meaning; a TPM never sets them.
    pub const RESERVED: u32 = !(FIXED_TPM
        | ST_CLEAR
        | FIXED_PARENT
        | SENSITIVE_DATA_ORIGIN
        | USER_WITH_AUTH
        | ADMIN_WITH_POLICY
        | NO_DA
        | ENCRYPTED_DUPLICATION
        | RESTRICTED
        | DECRYPT
        | SIGN
        | X509_SIGN);
}

/// Why a key is not accepted. The node whose key it is is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublicError {
    /// Not well formed or of another kind.
    #[error("the node's {key} public area cannot be accepted: {source}")]
    Wire {
        /// AK, EK or TLS key.
        key: &'static str,
        /// What is wrong.
        source: WireError,
    },
    /// Has not the attributes that make its signatures or activations mean something.
    #[error("the node's {key} must{} have the attribute {attribute}", if *.wanted { "" } else { " not" })]
    Attribute {
        /// AK, EK or TLS key.
        key: &'static str,
        /// TPMA_OBJECT name.
        attribute: &'static str,
        /// Must have or must not have.
        wanted: bool,
    },
    /// A key of this kind, or with this scheme, has no use here.
    #[error("the node's {key} is a {kind} key {with}, which is not accepted")]
    Kind {
        /// AK, EK or TLS key.
        key: &'static str,
        /// Its kind.
        kind: KeyKind,
        /// What is wrong about it.
        with: &'static str,
    },
    /// The EK is usable under another policy than the endorsement owner's.
    #[error("the node's EK has another authorisation policy than the templates of the EK Credential Profile")]
    EkPolicy,
}

/// Demands the bits `with` and refuses the bits `without`, by name.
fn demand_attributes(key: &'static str, found: u32, with: u32, without: u32) -> Result<(), PublicError> {
    let refused = |attribute, wanted| Err(PublicError::Attribute { key, attribute, wanted });
    for (bit, attribute) in attribute::NAMES {
        if with & bit != 0 && found & bit == 0 {
            return refused(attribute, true);
        }
        if without & bit != 0 && found & bit != 0 {
            return refused(attribute, false);
        }
    }
    if found & attribute::RESERVED != 0 {
        return refused("reserved", false);
    }
    Ok(())
}
