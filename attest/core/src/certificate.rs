//! X.509 (RFC 5280) as far as a Verifier needs it: one certificate signed by another, valid at a given time, with no critical
//! extension that we do not understand. The two users are `ek` (a manufacturer's chain) and `ak` (the Verifier's own certificates).

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::limits;

/// The critical extensions that are understood: basicConstraints, keyUsage, extKeyUsage, and subjectAltName, which the TCG profile
/// makes critical in EK certificates because their subject is empty.
const UNDERSTOOD: [Oid<'static>; 4] = [oid!(2.5.29.19), oid!(2.5.29.15), oid!(2.5.29.37), oid!(2.5.29.17)];
/// SHA-1 signatures: the parser's verifier would take the first two.
const WEAK: [Oid<'static>; 3] = [oid!(1.2.840.113549.1.1.5), oid!(1.3.14.3.2.29), oid!(1.2.840.10045.4.1)];

/// Why a certificate does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Not one DER or PEM certificate within the limits.
    #[error("it cannot be read as one X.509 certificate")]
    Malformed,
    /// Before notBefore or after notAfter.
    #[error("it is valid from {from} to {to}, not now")]
    NotNow {
        /// notBefore.
        from: String,
        /// notAfter.
        to: String,
    },
    /// No trusted certificate has the name of its issuer.
    #[error("its issuer \"{issuer}\" is not among the trusted certificates")]
    UnknownIssuer {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// A trusted certificate has the issuer's name but did not sign it.
    #[error("its signature is not by \"{issuer}\"")]
    Signature {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// Signed with SHA-1.
    #[error("it is signed with SHA-1")]
    Weak,
    /// The issuer is no certificate authority.
    #[error("its issuer \"{issuer}\" is not a certificate authority")]
    NotAnAuthority {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// More authorities stand below the issuer than it may have.
    #[error("its issuer \"{issuer}\" may not have as many authorities below it (pathLenConstraint)")]
    TooLong {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// A critical extension that is not understood.
    #[error("it has a critical extension {0} that is not understood")]
    Critical(String),
    /// Has not the purpose that it must have.
    #[error("it is not meant for this purpose (extended key usage lacks {0})")]
    Purpose(&'static str),
    /// The key in it is another one.
    #[error("the key in it is not the key that it came with")]
    Key,
    /// Made for another subject.
    #[error("it was issued to \"{found}\"")]
    Subject {
        /// Its common name or the EK that it names.
        found: String,
    },
}

/// Reads one DER certificate that fills the buffer.
pub(crate) fn from_der(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > limits::CERTIFICATE {
        return Err(CertificateError::Malformed);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

/// All certificates of a PEM file, DER.
pub fn pem_to_ders(pem: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    use rustls_pki_types::pem::PemObject;
    let ders: Result<Vec<_>, _> = rustls_pki_types::CertificateDer::pem_slice_iter(pem).collect();
    let ders = ders.map_err(|_| CertificateError::Malformed)?;
    Ok(ders.into_iter().map(|der| der.as_ref().to_vec()).collect())
}

/// What every certificate must fulfil at `now` (Unix seconds), whoever signed it.
pub(crate) fn check_itself(certificate: &X509Certificate<'_>, now: u64) -> Result<(), CertificateError> {
    let validity = certificate.validity();
    let now = i64::try_from(now)
        .ok()
        .and_then(|now| ASN1Time::from_timestamp(now).ok());
    if !now.is_some_and(|now| validity.is_valid_at(now)) {
        return Err(CertificateError::NotNow {
            from: validity.not_before.to_string(),
            to: validity.not_after.to_string(),
        });
    }
    let strange = certificate
        .extensions()
        .iter()
        .find(|e| e.critical && !UNDERSTOOD.contains(&e.oid));
    strange.map_or(Ok(()), |e| Err(CertificateError::Critical(e.oid.to_id_string())))
}

/// `certificate` is signed by `issuer`, which is an authority that is valid at `now`.
pub(crate) fn check_signed_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    now: u64,
) -> Result<(), CertificateError> {
    let name = || issuer.subject().to_string();
    if WEAK.contains(&certificate.signature_algorithm.algorithm) {
        return Err(CertificateError::Weak);
    }
    certificate
        .verify_signature(Some(issuer.public_key()))
        .map_err(|_| CertificateError::Signature { issuer: name() })?;
    check_itself(issuer, now)?;
    let constraints = issuer.basic_constraints().map_err(|_| CertificateError::Malformed)?;
    let usage = issuer.key_usage().map_err(|_| CertificateError::Malformed)?;
    let may_sign = constraints.is_some_and(|c| c.value.ca) && usage.is_none_or(|u| u.value.key_cert_sign());
    if may_sign {
        Ok(())
    } else {
        Err(CertificateError::NotAnAuthority { issuer: name() })
    }
}

/// `issuer` may have `below` authorities below it (RFC 5280, 4.2.1.9).
pub(crate) fn check_length(issuer: &X509Certificate<'_>, below: usize) -> Result<(), CertificateError> {
    let constraints = issuer.basic_constraints().map_err(|_| CertificateError::Malformed)?;
    let most = constraints.and_then(|c| c.value.path_len_constraint);
    if most.is_none_or(|most| usize::try_from(most).is_ok_and(|most| below <= most)) {
        Ok(())
    } else {
        Err(CertificateError::TooLong {
            issuer: issuer.subject().to_string(),
        })
    }
}

/// The extended key usage names `purpose`.
pub(crate) fn check_purpose(
    certificate: &X509Certificate<'_>,
    purpose: &Oid<'_>,
    name: &'static str,
) -> Result<(), CertificateError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| CertificateError::Malformed)?;
    let named = usage.is_some_and(|u| u.value.other.contains(purpose));
    if named {
        Ok(())
    } else {
        Err(CertificateError::Purpose(name))
    }
}
