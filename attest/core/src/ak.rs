//! The AK certificate: what the Verifier gave a node after credential activation. It carries the node's name (common name), the
//! EK's fingerprint (serialNumber attribute) and the AK's key, so that later rounds need no database but the registry's EK.

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_SERIALNUMBER};

use crate::bytes::Fixed;
use crate::certificate::{self, CertificateError};

/// tcg-kp-AIKCertificate: distinguishes these from everything else that the same authority may sign.
pub const AIK_PURPOSE: [u64; 5] = [2, 23, 133, 8, 3];

/// What a verified AK certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AkCertificate {
    /// Uncompressed SEC1 point of the AK.
    pub point: [u8; 65],
    /// SHA-256 of its SubjectPublicKeyInfo, see [`key_id`].
    pub key_id: Fixed<32>,
    /// Fingerprint of the EK that it was activated with.
    pub ek: Fixed<32>,
}

/// Verifies that `pem` is one certificate by `authority` (DER) for `node`, valid at `now` (Unix seconds).
pub fn verify(pem: &str, authority: &[u8], node: &str, now: u64) -> Result<AkCertificate, CertificateError> {
    let ders = certificate::pem_to_ders(pem.as_bytes())?;
    let [der] = ders.as_slice() else {
        return Err(CertificateError::Malformed);
    };
    let leaf = certificate::from_der(der)?;
    let authority = certificate::from_der(authority)?;
    if leaf.issuer() != authority.subject() {
        return Err(CertificateError::UnknownIssuer {
            issuer: leaf.issuer().to_string(),
        });
    }
    certificate::check_signed_by(&leaf, &authority, now)?;
    certificate::check_itself(&leaf, now)?;
    certificate::check_purpose(&leaf, &oid!(2.23.133.8.3), "tcg-kp-AIKCertificate")?;
    let name = only(&leaf, &OID_X509_COMMON_NAME)?;
    if name != node {
        return Err(CertificateError::Subject {
            found: crate::eventlog::printable(name, 80),
        });
    }
    let ek = Fixed::from_hex(only(&leaf, &OID_X509_SERIALNUMBER)?).ok_or(CertificateError::Malformed)?;
    let point = leaf
        .public_key()
        .subject_public_key
        .data
        .as_ref()
        .try_into()
        .map_err(|_| CertificateError::Malformed)?;
    let key_id = crate::bytes::sha256(leaf.public_key().raw);
    Ok(AkCertificate { point, key_id, ek })
}

/// SHA-256 of the SubjectPublicKeyInfo (DER) in an AK certificate: how the binding names the AK, for keys of every type.
pub fn key_id(pem: &str) -> Result<Fixed<32>, CertificateError> {
    let ders = certificate::pem_to_ders(pem.as_bytes())?;
    let [der] = ders.as_slice() else {
        return Err(CertificateError::Malformed);
    };
    Ok(crate::bytes::sha256(certificate::from_der(der)?.public_key().raw))
}

/// The one attribute of that kind in the subject.
fn only<'a>(leaf: &'a X509Certificate<'_>, kind: &Oid<'a>) -> Result<&'a str, CertificateError> {
    let mut found = leaf.subject().iter_by_oid(kind);
    match (found.next(), found.next()) {
        (Some(attribute), None) => attribute.as_str().map_err(|_| CertificateError::Malformed),
        _ => Err(CertificateError::Malformed),
    }
}
