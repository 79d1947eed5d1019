//! The key of a node's TLS client certificate: an ECDSA P-256 key that was made in the TPM and never leaves it. Not restricted, because
//! TLS signs digests that do not come from the TPM; so its signatures prove nothing but that this TPM holds it.

use super::super::{Hash, KeyKind, Name, PublicKey, alg};
use super::attribute::*;
use super::{PublicError, area, demand_attributes};

const KEY: &str = "TLS key";

/// An accepted TLS key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPublic {
    /// The key itself.
    pub key: PublicKey,
    pub(crate) name_alg: Hash,
    pub(crate) name: Name,
}

impl TlsPublic {
    /// Reads a TPM2B_PUBLIC and demands fixedTPM, fixedParent, sensitiveDataOrigin, sign, P-256, and neither restricted nor decrypt.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, PublicError> {
        let area = area::parse(tpm2b).map_err(|source| PublicError::Wire { key: KEY, source })?;
        let with = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | SIGN;
        demand_attributes(KEY, area.attributes, with, RESTRICTED | DECRYPT | X509_SIGN)?;
        let kind = area.public.kind();
        let refused = |with| PublicError::Kind { key: KEY, kind, with };
        if kind != KeyKind::P256 {
            return Err(refused("where ECC P-256 is wanted"));
        }
        if area.symmetric.is_some() {
            return Err(refused("with a symmetric algorithm"));
        }
        if !matches!(area.scheme, None | Some((alg::ECDSA, Hash::Sha256))) {
            return Err(refused("with another scheme than ECDSA with SHA-256"));
        }
        Ok(Self {
            key: area.public,
            name_alg: area.name_alg,
            name: area.name,
        })
    }
}

/// TPM2B_PUBLIC of a TLS key with the given attributes.
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
        scheme: Some((alg::ECDSA, if x.len() > 32 { Hash::Sha384 } else { Hash::Sha256 })),
        key: &key,
    }
    .tpm2b()
}

/// The attributes that a TLS key has.
#[cfg(any(test, feature = "testing"))]
pub const ATTRIBUTES: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | SIGN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_of_this_tpm_that_signs_and_nothing_else_is_accepted() {
        let point = [&[4][..], &[1; 32], &[2; 32]].concat();
        assert!(TlsPublic::parse(&build(ATTRIBUTES, &point)).is_ok());
        for (bit, attribute) in NAMES {
            let changed = TlsPublic::parse(&build(ATTRIBUTES ^ bit, &point));
            let free = ST_CLEAR | USER_WITH_AUTH | ADMIN_WITH_POLICY | NO_DA | ENCRYPTED_DUPLICATION;
            assert_eq!(changed.is_ok(), free & bit != 0, "{attribute}");
        }
        let p384 = [&[4][..], &[1; 48], &[2; 48]].concat();
        assert!(matches!(
            TlsPublic::parse(&build(ATTRIBUTES, &p384)),
            Err(PublicError::Kind { key: "TLS key", .. })
        ));
    }
}
