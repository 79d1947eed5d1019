//! The AK certificate: what the Verifier gave a node after credential activation. It carries the node's name (common name), the
//! EK's fingerprint (serialNumber attribute) and the AK's key, so that later rounds need no database but the registry's EK.
//! Verifying one costs more than all the rest of an appraisal, so what was verified once may be kept: [`VerifiedAk`].

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_SERIALNUMBER};
use x509_parser::time::ASN1Time;

use crate::bytes::{Fixed, sha256};
use crate::certificate::{self, CertificateError};
use crate::tpm::PublicKey;

/// tcg-kp-AIKCertificate: distinguishes these from everything else that the same authority may sign.
pub const AIK_PURPOSE: [u64; 5] = [2, 23, 133, 8, 3];

/// What a verified AK certificate says. Only [`VerifiedAk::verify`] makes one; it holds no secret and may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAk {
    key: PublicKey,
    key_id: Fixed<32>,
    ek: Fixed<32>,
    node: String,
    /// Unix seconds in which both the certificate and its authority's are valid.
    valid: (i64, i64),
    pem: Fixed<32>,
    authority: Fixed<32>,
}

/// SHA-256 of a certificate's PEM: what a [`VerifiedAk`] may be kept under.
pub fn pem_digest(pem: &str) -> Fixed<32> {
    sha256(pem.as_bytes())
}

/// Verifies that `pem` is one certificate by `authority` (DER) for `node`, valid at `now` (Unix seconds).
pub fn verify(pem: &str, authority: &[u8], node: &str, now: u64) -> Result<VerifiedAk, CertificateError> {
    let ak = VerifiedAk::verify(pem, authority, now)?;
    ak.is_for(node, now)?;
    Ok(ak)
}

/// SHA-256 of the SubjectPublicKeyInfo (DER) in an AK certificate: how the binding names the AK, for keys of every type.
pub fn key_id(pem: &str) -> Result<Fixed<32>, CertificateError> {
    Ok(sha256(certificate::from_der(&only_one(pem)?)?.public_key().raw))
}

impl VerifiedAk {
    /// Verifies that `pem` is one certificate by `authority` (DER), valid at `now` (Unix seconds), whomever it is for.
    pub fn verify(pem: &str, authority: &[u8], now: u64) -> Result<Self, CertificateError> {
        let der = only_one(pem)?;
        let leaf = certificate::from_der(&der)?;
        let issuer = certificate::from_der(authority)?;
        if leaf.issuer() != issuer.subject() {
            return Err(CertificateError::UnknownIssuer {
                issuer: leaf.issuer().to_string(),
            });
        }
        certificate::check_signed_by(&leaf, &issuer, now)?;
        certificate::check_itself(&leaf, now)?;
        certificate::check_purpose(&leaf, &oid!(2.23.133.8.3), "tcg-kp-AIKCertificate")?;
        let (own, above) = (leaf.validity(), issuer.validity());
        let valid = (
            own.not_before.timestamp().max(above.not_before.timestamp()),
            own.not_after.timestamp().min(above.not_after.timestamp()),
        );
        Self::read(&leaf, pem, sha256(authority), valid)
    }

    /// What the certificate says, whoever signed it. Never for a decision.
    pub(crate) fn unverified(pem: &str) -> Result<Self, CertificateError> {
        Self::read(&certificate::from_der(&only_one(pem)?)?, pem, Fixed::ZERO, (0, 0))
    }

    fn read(
        leaf: &X509Certificate<'_>,
        pem: &str,
        authority: Fixed<32>,
        valid: (i64, i64),
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            key: PublicKey::from_spki(leaf.public_key()).ok_or(CertificateError::Key)?,
            key_id: sha256(leaf.public_key().raw),
            ek: Fixed::from_hex(only(leaf, &OID_X509_SERIALNUMBER)?).ok_or(CertificateError::Malformed)?,
            node: only(leaf, &OID_X509_COMMON_NAME)?.into(),
            valid,
            pem: pem_digest(pem),
            authority,
        })
    }

    /// Whether it came from this certificate by this authority: if not, it says nothing about it.
    pub(crate) fn is_of(&self, pem: &str, authority: &[u8]) -> bool {
        self.pem == pem_digest(pem) && self.authority == sha256(authority)
    }

    /// Demands that it was issued to `node` and is valid at `now`.
    pub(crate) fn is_for(&self, node: &str, now: u64) -> Result<(), CertificateError> {
        if self.node != node {
            return Err(CertificateError::Subject {
                found: crate::eventlog::printable(&self.node, 80),
            });
        }
        let (from, to) = self.valid;
        if i64::try_from(now).is_ok_and(|now| (from..=to).contains(&now)) {
            return Ok(());
        }
        let text = |seconds| ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string());
        Err(CertificateError::NotNow {
            from: text(from),
            to: text(to),
        })
    }

    /// The AK.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of its SubjectPublicKeyInfo, see [`key_id`].
    pub fn key_id(&self) -> &Fixed<32> {
        &self.key_id
    }

    /// Fingerprint of the EK that it was activated with.
    pub fn ek(&self) -> &Fixed<32> {
        &self.ek
    }

    /// SHA-256 of the certificate's PEM: what to keep it under.
    pub fn pem_digest(&self) -> &Fixed<32> {
        &self.pem
    }
}

/// The one certificate of a PEM, DER.
fn only_one(pem: &str) -> Result<Vec<u8>, CertificateError> {
    let mut ders = certificate::pem_to_ders(pem.as_bytes())?;
    match (ders.pop(), ders.is_empty()) {
        (Some(der), true) => Ok(der),
        _ => Err(CertificateError::Malformed),
    }
}

/// The one attribute of that kind in the subject.
fn only<'a>(leaf: &'a X509Certificate<'_>, kind: &Oid<'a>) -> Result<&'a str, CertificateError> {
    let mut found = leaf.subject().iter_by_oid(kind);
    match (found.next(), found.next()) {
        (Some(attribute), None) => attribute.as_str().map_err(|_| CertificateError::Malformed),
        _ => Err(CertificateError::Malformed),
    }
}
