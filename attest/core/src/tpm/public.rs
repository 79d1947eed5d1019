//! TPM2B_PUBLIC of the two keys of an attestation (Part 2, 12.2): the AK, a restricted ECDSA P-256 signing key, and the EK, the
//! RSA-2048 default template (TCG EK Credential Profile 2.5, template L-1). Anything else does not parse. The attributes of an AK
//! are believed only because credential activation binds its Name, which covers them.

use super::alg;
use super::wire::{Reader, WireError, demand, put_sized};
use crate::bytes::{Fixed, sha256};

/// TPMA_OBJECT bits (Part 2, 8.3).
mod attribute {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;
    pub const NAMES: [(u32, &str); 6] = [
        (FIXED_TPM, "fixedTPM"),
        (FIXED_PARENT, "fixedParent"),
        (SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (RESTRICTED, "restricted"),
        (DECRYPT, "decrypt"),
        (SIGN, "sign"),
    ];
}

/// PolicySecret(TPM_RH_ENDORSEMENT), "PolicyA" of the EK Credential Profile: only its owner's endorsement authorisation uses the EK.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// RSA-2048.
const MODULUS_LEN: usize = 256;

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublicError {
    /// Not well formed or of another kind.
    #[error("the node's {key} public area cannot be accepted: {source}")]
    Wire {
        /// AK or EK.
        key: &'static str,
        /// What is wrong.
        source: WireError,
    },
    /// Has not the attributes that make its signatures or activations mean something.
    #[error("the node's {key} must{} have the attribute {attribute}", if *.wanted { "" } else { " not" })]
    Attribute {
        /// AK or EK.
        key: &'static str,
        /// TPMA_OBJECT name.
        attribute: &'static str,
        /// Must have or must not have.
        wanted: bool,
    },
    /// The EK is usable under another policy than the endorsement owner's.
    #[error("the node's EK has another authorisation policy than the default template")]
    EkPolicy,
}

/// An object's Name (Part 1, 16): algorithm and digest of its public area.
pub type Name = [u8; 34];

/// An accepted attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AkPublic {
    /// Affine coordinates, big endian.
    pub x: [u8; 32],
    /// Affine coordinates, big endian.
    pub y: [u8; 32],
    name: Name,
}

/// An accepted endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    /// RSA modulus, big endian, 256 bytes.
    pub modulus: Vec<u8>,
    /// RSA exponent.
    pub exponent: u32,
    name: Name,
}

impl AkPublic {
    /// Reads a TPM2B_PUBLIC and demands restricted, fixedTPM, fixedParent, sensitiveDataOrigin, sign and not decrypt.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, PublicError> {
        let wire = |source| PublicError::Wire { key: "AK", source };
        let area = whole(tpm2b).map_err(wire)?;
        let (attributes, x, y) = ecc_area(area).map_err(wire)?;
        use attribute::*;
        demand_attributes(
            "AK",
            attributes,
            FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN,
            DECRYPT,
        )?;
        Ok(Self {
            x,
            y,
            name: name_of(area),
        })
    }

    /// Its Name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Uncompressed SEC1 point, as an X.509 subjectPublicKey holds it.
    pub fn point(&self) -> [u8; 65] {
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&self.x);
        point[33..].copy_from_slice(&self.y);
        point
    }
}

impl EkPublic {
    /// Reads a TPM2B_PUBLIC and demands the default RSA-2048 template.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, PublicError> {
        let wire = |source| PublicError::Wire { key: "EK", source };
        let area = whole(tpm2b).map_err(wire)?;
        let rsa = rsa_area(area).map_err(wire)?;
        use attribute::*;
        demand_attributes(
            "EK",
            rsa.attributes,
            FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT,
            SIGN,
        )?;
        if rsa.policy != POLICY_A {
            return Err(PublicError::EkPolicy);
        }
        Ok(Self {
            modulus: rsa.modulus.to_vec(),
            exponent: rsa.exponent,
            name: name_of(area),
        })
    }

    /// Its Name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// SHA-256 of its public area: how the registry knows it.
    pub fn fingerprint(&self) -> Fixed<32> {
        Fixed::try_from(&self.name[2..]).expect("a Name is two bytes and a digest of 32")
    }
}

/// The TPMT_PUBLIC inside of a TPM2B_PUBLIC that fills the buffer.
fn whole(tpm2b: &[u8]) -> Result<&[u8], WireError> {
    let mut from = Reader::new(tpm2b);
    let area = from.sized("TPM2B_PUBLIC")?;
    from.end()?;
    Ok(area)
}

fn name_of(area: &[u8]) -> Name {
    let mut name = [0; 34];
    name[..2].copy_from_slice(&alg::SHA256.to_be_bytes());
    name[2..].copy_from_slice(&sha256(area).0);
    name
}

fn ecc_area(area: &[u8]) -> Result<(u32, [u8; 32], [u8; 32]), WireError> {
    let mut from = Reader::new(area);
    demand("type", from.u16("type")?, alg::ECC)?;
    demand("nameAlg", from.u16("nameAlg")?, alg::SHA256)?;
    let attributes = from.u32("objectAttributes")?;
    from.sized("authPolicy")?;
    demand("symmetric", from.u16("symmetric")?, alg::NULL)?;
    demand("scheme", from.u16("scheme")?, alg::ECDSA)?;
    demand("scheme hash", from.u16("scheme hash")?, alg::SHA256)?;
    demand("curveID", from.u16("curveID")?, alg::P256)?;
    demand("kdf", from.u16("kdf")?, alg::NULL)?;
    let x = coordinate(&mut from, "x")?;
    let y = coordinate(&mut from, "y")?;
    from.end()?;
    Ok((attributes, x, y))
}

/// A TPM may drop leading zeros.
pub(crate) fn coordinate(from: &mut Reader<'_>, what: &'static str) -> Result<[u8; 32], WireError> {
    let bytes = from.sized(what)?;
    let start = 32usize.checked_sub(bytes.len()).ok_or(WireError::TooLong {
        what,
        found: bytes.len(),
        max: 32,
    })?;
    let mut out = [0; 32];
    out[start..].copy_from_slice(bytes);
    Ok(out)
}

struct RsaArea<'a> {
    attributes: u32,
    policy: &'a [u8],
    exponent: u32,
    modulus: &'a [u8],
}

fn rsa_area(area: &[u8]) -> Result<RsaArea<'_>, WireError> {
    let mut from = Reader::new(area);
    demand("type", from.u16("type")?, alg::RSA)?;
    demand("nameAlg", from.u16("nameAlg")?, alg::SHA256)?;
    let attributes = from.u32("objectAttributes")?;
    let policy = from.sized("authPolicy")?;
    demand("symmetric", from.u16("symmetric")?, alg::AES)?;
    demand("symmetric keyBits", from.u16("symmetric keyBits")?, 128u16)?;
    demand("symmetric mode", from.u16("symmetric mode")?, alg::CFB)?;
    demand("scheme", from.u16("scheme")?, alg::NULL)?;
    demand("keyBits", from.u16("keyBits")?, 2048u16)?;
    let exponent = match from.u32("exponent")? {
        0 => 65537, // Part 2, 12.2.3.5: zero stands for the default.
        exponent => exponent,
    };
    let modulus = from.sized("modulus")?;
    demand("modulus size", modulus.len() as u64, MODULUS_LEN as u64)?;
    from.end()?;
    Ok(RsaArea {
        attributes,
        policy,
        exponent,
        modulus,
    })
}

fn demand_attributes(key: &'static str, found: u32, with: u32, without: u32) -> Result<(), PublicError> {
    for (bit, attribute) in attribute::NAMES {
        if with & bit != 0 && found & bit == 0 {
            return Err(PublicError::Attribute {
                key,
                attribute,
                wanted: true,
            });
        }
        if without & bit != 0 && found & bit != 0 {
            return Err(PublicError::Attribute {
                key,
                attribute,
                wanted: false,
            });
        }
    }
    Ok(())
}

/// TPM2B_PUBLIC of an AK with the given attributes, for tests.
#[cfg(test)]
pub(crate) fn build_ak(attributes: u32, x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut area = Vec::new();
    for word in [alg::ECC, alg::SHA256] {
        area.extend_from_slice(&word.to_be_bytes());
    }
    area.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut area, &[]);
    for word in [alg::NULL, alg::ECDSA, alg::SHA256, alg::P256, alg::NULL] {
        area.extend_from_slice(&word.to_be_bytes());
    }
    put_sized(&mut area, x);
    put_sized(&mut area, y);
    let mut out = Vec::new();
    put_sized(&mut out, &area);
    out
}

/// TPM2B_PUBLIC of a default-template EK with the given modulus: what a node's TPM would give for it.
pub fn default_ek_template(modulus: &[u8]) -> Vec<u8> {
    let mut area = Vec::new();
    area.extend_from_slice(&alg::RSA.to_be_bytes());
    area.extend_from_slice(&alg::SHA256.to_be_bytes());
    area.extend_from_slice(&0x0003_00b2u32.to_be_bytes());
    put_sized(&mut area, &POLICY_A);
    for word in [alg::AES, 128, alg::CFB, alg::NULL, 2048] {
        area.extend_from_slice(&word.to_be_bytes());
    }
    area.extend_from_slice(&0u32.to_be_bytes());
    put_sized(&mut area, modulus);
    let mut out = Vec::new();
    put_sized(&mut out, &area);
    out
}

#[cfg(test)]
mod tests {
    use super::attribute::*;
    use super::*;

    const GOOD: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN | 1 << 6;

    #[test]
    fn a_restricted_signing_key_is_accepted() {
        let ak = AkPublic::parse(&build_ak(GOOD, &[1; 32], &[2; 31])).expect("accepted");
        assert_eq!(ak.x, [1; 32]);
        assert_eq!(ak.y[..2], [0, 2], "leading zeros are restored");
        assert_eq!(ak.point()[0], 4);
    }

    #[test]
    fn each_missing_attribute_is_refused_by_name() {
        for bit in [FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, RESTRICTED, SIGN] {
            let refused = AkPublic::parse(&build_ak(GOOD & !bit, &[1; 32], &[2; 32])).expect_err("attribute");
            assert!(
                matches!(
                    refused,
                    PublicError::Attribute {
                        key: "AK",
                        wanted: true,
                        ..
                    }
                ),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_key_that_also_decrypts_is_refused() {
        let refused = AkPublic::parse(&build_ak(GOOD | DECRYPT, &[1; 32], &[2; 32])).expect_err("decrypt");
        assert_eq!(
            refused,
            PublicError::Attribute {
                key: "AK",
                attribute: "decrypt",
                wanted: false
            }
        );
    }

    #[test]
    fn the_default_ek_template_is_accepted_and_another_policy_is_not() {
        let good = default_ek_template(&[0xa5; MODULUS_LEN]);
        let ek = EkPublic::parse(&good).expect("accepted");
        assert_eq!(ek.exponent, 65537);
        let mut other = good;
        other[12] ^= 1;
        assert_eq!(EkPublic::parse(&other), Err(PublicError::EkPolicy));
    }

    #[test]
    fn keys_are_not_taken_for_one_another() {
        assert!(AkPublic::parse(&default_ek_template(&[1; MODULUS_LEN])).is_err());
        assert!(EkPublic::parse(&build_ak(GOOD, &[1; 32], &[2; 32])).is_err());
    }

    #[test]
    fn coordinates_over_32_bytes_are_refused() {
        assert!(AkPublic::parse(&build_ak(GOOD, &[1; 33], &[2; 32])).is_err());
    }
}
