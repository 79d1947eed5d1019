//! The EK certificate (TCG EK Credential Profile 2.5): issued by a manufacturer whom the operator trusts, valid now, for exactly
//! the EK that the node enrols with. Every certificate the operator names is an anchor, intermediates included.

use x509_parser::asn1_rs::oid;
use x509_parser::certificate::X509Certificate;

use crate::certificate::{self, CertificateError};
use crate::limits;
use crate::tpm::{EkPublic, PublicKey};

/// The manufacturers' certificates that an operator trusts.
#[derive(Clone, Debug, Default)]
pub struct EkRoots(Vec<Vec<u8>>);

impl EkRoots {
    /// From DER certificates; each is read once to refuse rubbish early.
    pub fn new(ders: Vec<Vec<u8>>) -> Result<Self, CertificateError> {
        for der in &ders {
            certificate::from_der(der)?;
        }
        Ok(Self(ders))
    }

    /// No manufacturer is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies `der` at `now` (Unix seconds): chain to an anchor, purpose, and that its key is `ek`.
    pub fn verify(&self, der: &[u8], ek: &EkPublic, now: u64) -> Result<(), CertificateError> {
        let leaf = certificate::from_der(der)?;
        certificate::check_itself(&leaf, now)?;
        self.check_chain(&leaf, now)?;
        // Older certificates have no extended key usage at all; one that has it must name the purpose.
        if leaf
            .extended_key_usage()
            .map_err(|_| CertificateError::Malformed)?
            .is_some()
        {
            certificate::check_purpose(&leaf, &oid!(2.23.133.8.1), "tcg-kp-EKCertificate")?;
        }
        check_key(&leaf, ek)
    }

    /// Walks from `leaf` over anchors with the issuer's name until one is found that is its own issuer or has none among us.
    fn check_chain(&self, leaf: &X509Certificate<'_>, now: u64) -> Result<(), CertificateError> {
        let anchors: Result<Vec<_>, _> = self.0.iter().map(|der| certificate::from_der(der)).collect();
        let anchors = anchors?;
        let mut current = leaf;
        for depth in 0..limits::CHAIN {
            let named: Vec<_> = anchors.iter().filter(|a| a.subject() == current.issuer()).collect();
            if named.is_empty() && depth > 0 {
                return Ok(()); // An intermediate that the operator named is an anchor itself.
            }
            let unknown = CertificateError::UnknownIssuer {
                issuer: current.issuer().to_string(),
            };
            let mut why = unknown;
            let issuer = named
                .into_iter()
                .find(|a| match certificate::check_signed_by(current, a, now) {
                    Ok(()) => true,
                    Err(e) => {
                        why = e;
                        false
                    }
                });
            let issuer = issuer.ok_or(why)?;
            if issuer.subject() == issuer.issuer() {
                return Ok(());
            }
            current = issuer;
        }
        Err(CertificateError::UnknownIssuer {
            issuer: current.issuer().to_string(),
        })
    }
}

/// Compares the keys. For RSA only the key bits count: the algorithm identifier may be RSAES-OAEP, as some vendors write it. For ECC
/// the curve is part of the identifier, so there it counts.
fn check_key(leaf: &X509Certificate<'_>, ek: &EkPublic) -> Result<(), CertificateError> {
    let spki = leaf.public_key();
    let same = if ek.kind().is_ecc() {
        PublicKey::from_spki(spki).as_ref() == Some(ek.public())
    } else {
        spki.subject_public_key.data.as_ref() == ek.public().subject_public_key()
    };
    if same { Ok(()) } else { Err(CertificateError::Key) }
}

#[cfg(test)]
mod tests {
    //! A chain as swtpm_setup makes it: root, intermediate, EK certificate with the critical subjectAltName of the TCG profile.
    use super::*;

    const EK: &[u8] = include_bytes!("../../../tests/fixtures/ek/ek.pub");
    const CERTIFICATE: &[u8] = include_bytes!("../../../tests/fixtures/ek/ek.der");
    const ISSUER: &[u8] = include_bytes!("../../../tests/fixtures/ek/issuer.pem");
    const ROOT: &[u8] = include_bytes!("../../../tests/fixtures/ek/root.pem");
    /// A day after the chain was made.
    const NOW: u64 = 1_795_563_400;

    fn ek() -> EkPublic {
        EkPublic::parse(EK).expect("template")
    }

    fn roots(pems: &[&[u8]]) -> EkRoots {
        let ders = pems
            .iter()
            .flat_map(|pem| certificate::pem_to_ders(pem).expect("pem"))
            .collect();
        EkRoots::new(ders).expect("certificates")
    }

    #[test]
    fn a_chain_to_a_named_certificate_counts() {
        assert_eq!(roots(&[ISSUER, ROOT]).verify(CERTIFICATE, &ek(), NOW), Ok(()));
        assert_eq!(
            roots(&[ISSUER]).verify(CERTIFICATE, &ek(), NOW),
            Ok(()),
            "an intermediate may be the anchor"
        );
    }

    #[test]
    fn an_issuer_that_nobody_named_is_refused_by_name() {
        let unknown = CertificateError::UnknownIssuer {
            issuer: "CN=swtpm-localca".into(),
        };
        assert_eq!(roots(&[ROOT]).verify(CERTIFICATE, &ek(), NOW), Err(unknown.clone()));
        assert_eq!(EkRoots::default().verify(CERTIFICATE, &ek(), NOW), Err(unknown));
    }

    #[test]
    fn before_its_time_it_does_not_count() {
        let refused = roots(&[ISSUER, ROOT]).verify(CERTIFICATE, &ek(), NOW - 10 * 86_400);
        assert!(matches!(refused, Err(CertificateError::NotNow { .. })));
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let mut other = EK.to_vec();
        *other.last_mut().expect("modulus") ^= 2;
        let other = EkPublic::parse(&other).expect("template");
        assert_eq!(
            roots(&[ISSUER, ROOT]).verify(CERTIFICATE, &other, NOW),
            Err(CertificateError::Key)
        );
    }

    #[test]
    fn a_changed_certificate_and_one_that_is_none_are_refused() {
        let mut changed = CERTIFICATE.to_vec();
        *changed.last_mut().expect("signature") ^= 1;
        assert!(matches!(
            roots(&[ISSUER]).verify(&changed, &ek(), NOW),
            Err(CertificateError::Signature { .. })
        ));
        assert_eq!(
            roots(&[ISSUER]).verify(b"rubbish", &ek(), NOW),
            Err(CertificateError::Malformed)
        );
        let trailing = [CERTIFICATE, &[0]].concat();
        assert_eq!(
            roots(&[ISSUER]).verify(&trailing, &ek(), NOW),
            Err(CertificateError::Malformed)
        );
    }

    #[test]
    fn an_authoritys_certificate_is_no_ek_certificate() {
        let issuer = certificate::pem_to_ders(ISSUER).expect("pem").remove(0);
        assert_eq!(roots(&[ROOT]).verify(&issuer, &ek(), NOW), Err(CertificateError::Key));
    }
}
