//! The attestation key: a restricted signing key that never leaves its TPM, so that whatever it signs begins with TPM_GENERATED and
//! was made by that TPM. RSA-2048 and RSA-3072 (RSASSA, RSAPSS), ECDSA over P-256 and P-384.

use super::super::{Hash, KeyKind, Name, PublicKey, alg};
use super::attribute::*;
use super::{PublicError, area, demand_attributes};

const KEY: &str = "AK";
const WITH: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
/// x509sign would let it sign structures that do not begin with TPM_GENERATED (Part 3, 18.8).
const WITHOUT: u32 = DECRYPT | X509_SIGN;

/// An accepted attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AkPublic {
    key: PublicKey,
    name: Name,
}

impl AkPublic {
    /// Reads a TPM2B_PUBLIC and demands restricted, fixedTPM, fixedParent, sensitiveDataOrigin, sign, and neither decrypt nor x509sign.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, PublicError> {
        let area = area::parse(tpm2b).map_err(|source| PublicError::Wire { key: KEY, source })?;
        demand_attributes(KEY, area.attributes, WITH, WITHOUT)?;
        let kind = area.public.kind();
        let refused = |with| PublicError::Kind { key: KEY, kind, with };
        if area.symmetric.is_some() {
            return Err(refused("with a symmetric algorithm"));
        }
        match (kind, area.scheme) {
            (_, None) => Err(refused("without a signing scheme")),
            (KeyKind::Rsa2048 | KeyKind::Rsa3072, Some((alg::RSASSA | alg::RSAPSS, _)))
            | (KeyKind::P256, Some((alg::ECDSA, Hash::Sha256)))
            | (KeyKind::P384, Some((alg::ECDSA, Hash::Sha384))) => Ok(Self {
                key: area.public,
                name: area.name,
            }),
            _ => Err(refused("with a scheme or hash of another kind")),
        }
    }

    /// Its Name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The key itself, for its certificate.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// TPM2B_PUBLIC of an ECC P-256 AK with these attributes and this point, for tests.
#[cfg(any(test, feature = "testing"))]
pub fn build(attributes: u32, point: &[u8]) -> Vec<u8> {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    let key = area::AreaKey::Ecc {
        x: x.to_vec(),
        y: y.to_vec(),
    };
    area::Build {
        name_alg: Hash::Sha256,
        attributes,
        policy: &[],
        symmetric: None,
        scheme: Some((alg::ECDSA, Hash::Sha256)),
        key: &key,
    }
    .tpm2b()
}

/// The attributes that such an AK has.
#[cfg(any(test, feature = "testing"))]
pub const ATTRIBUTES: u32 = WITH | USER_WITH_AUTH | NO_DA;

#[cfg(test)]
mod tests {
    use super::area::{AreaKey, Build};
    use super::*;
    use crate::tpm::WireError;

    const GOOD: u32 = WITH | USER_WITH_AUTH | NO_DA;

    fn ecc(len: usize) -> AreaKey {
        AreaKey::Ecc {
            x: vec![1; len],
            y: vec![2; len - 1],
        }
    }

    fn rsa(len: usize) -> AreaKey {
        AreaKey::Rsa {
            modulus: vec![0x81; len],
            exponent: 65537,
        }
    }

    fn ak(attributes: u32, scheme: Option<(u16, Hash)>, key: &AreaKey) -> Result<AkPublic, PublicError> {
        let build = Build {
            name_alg: Hash::Sha256,
            attributes,
            policy: &[],
            symmetric: None,
            scheme,
            key,
        };
        AkPublic::parse(&build.tpm2b())
    }

    const P256: Option<(u16, Hash)> = Some((alg::ECDSA, Hash::Sha256));

    #[test]
    fn restricted_signing_keys_of_each_kind_are_accepted() {
        let cases = [
            (KeyKind::P256, P256, ecc(32)),
            (KeyKind::P384, Some((alg::ECDSA, Hash::Sha384)), ecc(48)),
            (KeyKind::Rsa2048, Some((alg::RSASSA, Hash::Sha256)), rsa(256)),
            (KeyKind::Rsa2048, Some((alg::RSAPSS, Hash::Sha384)), rsa(256)),
            (KeyKind::Rsa3072, Some((alg::RSASSA, Hash::Sha384)), rsa(384)),
        ];
        for (kind, scheme, key) in cases {
            assert_eq!(ak(GOOD, scheme, &key).expect("accepted").key().kind(), kind);
        }
        let point = ak(GOOD, P256, &ecc(32)).expect("accepted");
        assert_eq!(
            point.key().subject_public_key()[33..35],
            [0, 2],
            "leading zeros are restored"
        );
    }

    #[test]
    fn each_missing_attribute_is_refused_by_name() {
        for (bit, attribute) in NAMES.into_iter().filter(|(bit, _)| WITH & bit != 0) {
            let refused = ak(GOOD & !bit, P256, &ecc(32)).expect_err("attribute");
            let expected = PublicError::Attribute {
                key: "AK",
                attribute,
                wanted: true,
            };
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_key_that_also_decrypts_or_certifies_or_has_unknown_bits_is_refused() {
        for (bit, attribute) in [(DECRYPT, "decrypt"), (X509_SIGN, "x509sign"), (1 << 30, "reserved")] {
            let refused = ak(GOOD | bit, P256, &ecc(32)).expect_err("attribute");
            let expected = PublicError::Attribute {
                key: "AK",
                attribute,
                wanted: false,
            };
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_scheme_of_another_kind_is_refused() {
        for (scheme, key) in [
            (None, ecc(32)),
            (Some((alg::ECDSA, Hash::Sha384)), ecc(32)),
            (Some((alg::ECDSA, Hash::Sha256)), ecc(48)),
            (Some((alg::RSASSA, Hash::Sha256)), ecc(32)),
            (P256, rsa(256)),
        ] {
            assert!(matches!(
                ak(GOOD, scheme, &key),
                Err(PublicError::Kind { key: "AK", .. })
            ));
        }
    }

    #[test]
    fn coordinates_and_moduli_of_other_lengths_are_refused() {
        let long = AreaKey::Ecc {
            x: vec![1; 32],
            y: vec![2; 33],
        };
        for key in [long, rsa(128), rsa(512)] {
            let refused = ak(GOOD, Some((alg::RSASSA, Hash::Sha256)), &key).expect_err("length");
            assert!(
                matches!(
                    refused,
                    PublicError::Wire {
                        source: WireError::TooLong { .. } | WireError::Value { .. },
                        ..
                    }
                ),
                "{refused}"
            );
        }
    }
}
