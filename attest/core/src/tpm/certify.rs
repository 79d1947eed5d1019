//! TPM2_Certify of the TLS key (Part 2, 10.12.3; Part 3, 18.2): the AK's word that a key lies in the same TPM. The Name covers key and
//! attributes; the Qualified Name says that it is a primary of the endorsement or the owner's hierarchy, so nobody imported it.

use super::attest::{self, Attest};
use super::public::PublicError;
use super::public::tls::TlsPublic;
use super::signature::{Signature, SignatureError};
use super::wire::WireError;
use super::{Name, PublicKey};

/// TPM_RH_OWNER and TPM_RH_ENDORSEMENT (Part 2, 7.4).
const HIERARCHIES: [u32; 2] = [0x4000_000b, 0x4000_0001];

/// TPMS_CERTIFY_INFO and the challenge that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certification {
    /// qualifyingData: the first half of the binding's digest.
    pub extra_data: Vec<u8>,
    name: Vec<u8>,
    qualified_name: Vec<u8>,
}

/// A key for TLS of which the TPM of the AK said that it holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsKey {
    /// The key: ECC P-256.
    pub key: PublicKey,
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

/// Why a certification says nothing about the key that came with it. The node is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertifyError {
    /// The public area is not a TLS key's.
    #[error(transparent)]
    Public(#[from] PublicError),
    /// Not well formed, not made by a TPM, or not a certification.
    #[error("the certification of the TLS key cannot be read: {0}")]
    Wire(#[from] WireError),
    /// Another key was certified.
    #[error("the certification names another key than the TLS key that came with it")]
    Name,
    /// Not a primary of a hierarchy that survives a reset.
    #[error("the TLS key is not a primary of the TPM's endorsement or owner hierarchy")]
    Hierarchy,
    /// Made for another exchange.
    #[error("the certification of the TLS key was made for another exchange")]
    Binding,
    /// Not the AK's.
    #[error("the certification of the TLS key: {0}")]
    Signature(SignatureError),
}

impl CertifyError {
    /// Name of the check that failed.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Public(_) => "tls-key-public",
            Self::Wire(_) => "tls-key-certification",
            Self::Name => "tls-key-name",
            Self::Hierarchy => "tls-key-hierarchy",
            Self::Binding => "tls-key-binding",
            Self::Signature(_) => "tls-key-signature",
        }
    }
}

impl Certification {
    /// Reads a TPMS_ATTEST and demands that it is a certification.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let attest = Attest::parse(bytes, attest::CERTIFY)?;
        let mut from = attest.rest;
        let name = from.sized("name")?.to_vec();
        let qualified_name = from.sized("qualifiedName")?.to_vec();
        from.end()?;
        Ok(Self {
            extra_data: attest.extra_data.to_vec(),
            name,
            qualified_name,
        })
    }

    fn names(&self, key: &TlsPublic) -> Result<(), CertifyError> {
        if self.name == key.name.as_ref() {
            Ok(())
        } else {
            Err(CertifyError::Name)
        }
    }

    fn is_primary(&self, key: &TlsPublic) -> Result<(), CertifyError> {
        let under = |handle: &u32| Name::qualified_under(&key.name, key.name_alg, *handle);
        if HIERARCHIES.iter().any(|h| under(h).as_ref() == self.qualified_name) {
            Ok(())
        } else {
            Err(CertifyError::Hierarchy)
        }
    }

    fn answers(&self, qualifying_data: &[u8]) -> Result<(), CertifyError> {
        if self.extra_data == qualifying_data {
            Ok(())
        } else {
            Err(CertifyError::Binding)
        }
    }
}

/// Every check of a TLS key: TPM2B_PUBLIC, TPMS_ATTEST and TPMT_SIGNATURE by the AK, for the exchange of `qualifying_data`. All that
/// fail are given.
pub fn verify(
    public: &[u8],
    attest: &[u8],
    signature: &[u8],
    ak: &PublicKey,
    qualifying_data: &[u8],
) -> Result<TlsKey, Vec<CertifyError>> {
    let mut errors = Vec::new();
    let key = TlsPublic::parse(public).map_err(|e| errors.push(e.into())).ok();
    let certification = Certification::parse(attest).map_err(|e| errors.push(e.into())).ok();
    let signed = Signature::parse(signature)
        .map_err(SignatureError::Wire)
        .and_then(|signature| signature.verify(ak, attest));
    errors.extend(signed.map_err(CertifyError::Signature).err());
    if let Some(certification) = &certification {
        errors.extend(certification.answers(qualifying_data).err());
    }
    if let (Some(key), Some(certification)) = (&key, &certification) {
        match certification.names(key) {
            Ok(()) => errors.extend(certification.is_primary(key).err()),
            Err(other) => errors.push(other),
        }
    }
    match key {
        Some(TlsPublic { key, .. }) if errors.is_empty() => Ok(TlsKey { spki: key.spki(), key }),
        _ => Err(errors),
    }
}

/// TPMS_CERTIFY_INFO of the key with this TPM2B_PUBLIC (nameAlg SHA-256), a primary of `hierarchy`.
#[cfg(any(test, feature = "testing"))]
pub fn build(public: &[u8], hierarchy: u32) -> Vec<u8> {
    use super::Hash;
    use super::wire::put_sized;
    let name = Name::of(Hash::Sha256, &public[2..]);
    let mut out = Vec::new();
    put_sized(&mut out, name.as_ref());
    put_sized(&mut out, name.qualified_under(Hash::Sha256, hierarchy).as_ref());
    out
}
