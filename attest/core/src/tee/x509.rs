//! What both vendors' chains share: links from certificate to issuer under one fixed algorithm, and revocation lists (RFC 5280, 5).

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::certificate::{self, CertificateError};

const RSASSA_PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
const ECDSA_SHA256: Oid<'static> = oid!(1.2.840.10045.4.3.2);
const MGF1: Oid<'static> = oid!(1.2.840.113549.1.1.8);
const SHA384: Oid<'static> = oid!(2.16.840.1.101.3.4.2.2);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
/// Bytes of SHA-384.
const SALT: u32 = 48;
/// Bits of AMD's RSA keys.
const RSA_BITS: usize = 4096;

/// The one algorithm of a vendor's certificates and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// AMD: RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, by an RSA-4096 key (57230, 3.1).
    Amd,
    /// Intel: ECDSA with SHA-256 by a P-256 key.
    Intel,
}

/// Whether `key` signed `message` by `algorithm` and no other.
pub(crate) fn is_signed(
    algorithm: Algorithm,
    key: &SubjectPublicKeyInfo<'_>,
    named: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let verifier: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::Amd if is_pss_384(named) && is_rsa_4096(key) => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Intel if named.algorithm == ECDSA_SHA256 && is_p256(key) => &signature::ECDSA_P256_SHA256_ASN1,
        Algorithm::Amd | Algorithm::Intel => return false,
    };
    UnparsedPublicKey::new(verifier, &key.subject_public_key.data)
        .verify(message, signature)
        .is_ok()
}

fn is_pss_384(named: &AlgorithmIdentifier<'_>) -> bool {
    let parameters = named.parameters.as_ref();
    let Some(pss) = parameters.and_then(|p| RsaSsaPssParams::try_from(p).ok()) else {
        return false;
    };
    let mask = pss.mask_gen_algorithm();
    named.algorithm == RSASSA_PSS
        && *pss.hash_algorithm_oid() == SHA384
        && mask.is_ok_and(|m| m.mgf == MGF1 && m.hash == SHA384)
        && pss.salt_length() == SALT
        && pss.trailer_field() == 1
}

fn is_rsa_4096(key: &SubjectPublicKeyInfo<'_>) -> bool {
    matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() == RSA_BITS)
}

fn is_p256(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    curve.is_some_and(|c| c == P256)
}

/// `certificate` names `issuer` and is signed by it; `issuer` is an authority and valid at `now`.
pub(crate) fn check_link(
    algorithm: Algorithm,
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    now: u64,
) -> Result<(), CertificateError> {
    let name = || issuer.subject().to_string();
    if certificate.issuer() != issuer.subject() {
        return Err(CertificateError::UnknownIssuer {
            issuer: certificate.issuer().to_string(),
        });
    }
    let (signed, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    if !is_signed(
        algorithm,
        issuer.public_key(),
        &certificate.signature_algorithm,
        signed,
        signature,
    ) {
        return Err(CertificateError::Signature { issuer: name() });
    }
    certificate::check_itself(issuer, now)?;
    let constraints = issuer.basic_constraints().map_err(|_| CertificateError::Malformed)?;
    let usage = issuer.key_usage().map_err(|_| CertificateError::Malformed)?;
    let may_sign = constraints.is_some_and(|c| c.value.ca) && usage.is_some_and(|u| u.value.key_cert_sign());
    if may_sign {
        Ok(())
    } else {
        Err(CertificateError::NotAnAuthority { issuer: name() })
    }
}

/// The last second at which a certificate counts.
pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> u64 {
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
}
