//! The EK certificate (TCG EK Credential Profile 2.5): issued by a manufacturer whom the operator trusts, valid now, for exactly
//! the EK that the node enrols with. Every certificate the operator names is an anchor, intermediates included. What a TPM brings of its
//! chain helps to find the way to an anchor and is never one itself.

use x509_parser::asn1_rs::oid;
use x509_parser::certificate::X509Certificate;

use crate::bytes::Blob;
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
        self.verify_with(der, &[], ek, now)
    }

    /// The same with intermediates (DER) that came with the certificate, at most [`limits::CHAIN`] of them.
    pub fn verify_with(
        &self,
        der: &[u8],
        intermediates: &[Blob],
        ek: &EkPublic,
        now: u64,
    ) -> Result<(), CertificateError> {
        if intermediates.len() > limits::CHAIN {
            return Err(CertificateError::Malformed);
        }
        let leaf = certificate::from_der(der)?;
        certificate::check_itself(&leaf, now)?;
        let anchors: Result<Vec<_>, _> = self.0.iter().map(|der| certificate::from_der(der)).collect();
        let intermediates: Result<Vec<_>, _> = intermediates.iter().map(|der| certificate::from_der(&der.0)).collect();
        check_chain(&leaf, &anchors?, &intermediates?, now)?;
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
}

/// Walks from `leaf` to an anchor, over the others where no anchor is the issuer; and from there on over anchors only, until one is found
/// that is its own issuer or has none among us.
fn check_chain(
    leaf: &X509Certificate<'_>,
    anchors: &[X509Certificate<'_>],
    intermediates: &[X509Certificate<'_>],
    now: u64,
) -> Result<(), CertificateError> {
    let (mut current, mut is_anchored) = (leaf, false);
    for below in 0..limits::CHAIN {
        match issuer(current, anchors, below, now) {
            Ok(anchor) if anchor.subject() == anchor.issuer() => return Ok(()),
            Ok(anchor) => (current, is_anchored) = (anchor, true),
            // An intermediate that the operator named is an anchor itself.
            Err(CertificateError::UnknownIssuer { .. }) if is_anchored => return Ok(()),
            Err(why) if is_anchored => return Err(why),
            Err(why) => {
                let brought = issuer(current, intermediates, below, now);
                current = brought.map_err(|own| match own {
                    CertificateError::UnknownIssuer { .. } => why,
                    own => own,
                })?;
            }
        }
    }
    Err(unknown(current))
}

/// The one among `candidates` that signed `current`, below which there are `below` authorities already.
fn issuer<'a, 'b>(
    current: &X509Certificate<'_>,
    candidates: &'a [X509Certificate<'b>],
    below: usize,
    now: u64,
) -> Result<&'a X509Certificate<'b>, CertificateError> {
    let mut why = unknown(current);
    for candidate in candidates.iter().filter(|c| c.subject() == current.issuer()) {
        let signed = certificate::check_signed_by(current, candidate, now);
        match signed.and_then(|()| certificate::check_length(candidate, below)) {
            Ok(()) => return Ok(candidate),
            Err(e) => why = e,
        }
    }
    Err(why)
}

fn unknown(certificate: &X509Certificate<'_>) -> CertificateError {
    CertificateError::UnknownIssuer {
        issuer: certificate.issuer().to_string(),
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

    fn blobs(pems: &[&[u8]]) -> Vec<Blob> {
        let ders = pems.iter().flat_map(|pem| certificate::pem_to_ders(pem).expect("pem"));
        ders.map(Blob).collect()
    }

    #[test]
    fn intermediates_that_a_tpm_brings_lead_to_an_anchor_and_are_none() {
        let with =
            |anchors: &[&[u8]], brought: &[&[u8]]| roots(anchors).verify_with(CERTIFICATE, &blobs(brought), &ek(), NOW);
        assert_eq!(with(&[ROOT], &[ISSUER]), Ok(()));
        assert_eq!(
            with(&[ROOT], &[ROOT, ISSUER]),
            Ok(()),
            "in any order, and the root may be there too"
        );
        assert_eq!(with(&[ISSUER], &[ROOT]), Ok(()), "nothing of it was needed");
        let unknown = |issuer: &str| Err(CertificateError::UnknownIssuer { issuer: issuer.into() });
        assert_eq!(with(&[], &[ISSUER]), unknown("CN=swtpm-localca-rootca"));
        assert_eq!(
            with(&[], &[ISSUER, ROOT]),
            unknown("CN=swtpm-localca-rootca"),
            "a root that it brought itself, round and round"
        );
        assert_eq!(with(&[ROOT], &[]), unknown("CN=swtpm-localca"));
    }

    #[test]
    fn an_intermediate_that_is_changed_too_many_or_rubbish_is_refused() {
        let with = |brought: &[Blob]| roots(&[ROOT]).verify_with(CERTIFICATE, brought, &ek(), NOW);
        let mut changed = blobs(&[ISSUER]);
        *changed[0].0.last_mut().expect("signature") ^= 1;
        assert!(matches!(with(&changed), Err(CertificateError::Signature { .. })));
        let many = blobs(&[ISSUER; limits::CHAIN + 1]);
        assert_eq!(with(&many), Err(CertificateError::Malformed));
        assert_eq!(with(&many[1..]), Ok(()), "as many as may be");
        assert_eq!(with(&[Blob(b"rubbish".to_vec())]), Err(CertificateError::Malformed));
    }

    /// An authority named `name`, by `issuer` or by itself, above which `length` more may stand.
    fn authority(
        name: &str,
        length: Option<u8>,
        issuer: Option<&rcgen::Issuer<'static, rcgen::KeyPair>>,
    ) -> (Vec<u8>, rcgen::Issuer<'static, rcgen::KeyPair>) {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(length.map_or(rcgen::BasicConstraints::Unconstrained, |length| {
            rcgen::BasicConstraints::Constrained(length)
        }));
        let key = rcgen::KeyPair::generate().expect("key");
        let der = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        (
            der.expect("certificate").der().to_vec(),
            rcgen::Issuer::new(params, key),
        )
    }

    #[test]
    fn an_authority_that_may_have_none_below_it_has_none() {
        let judge = |allowed: Option<u8>| {
            let (root, by_root) = authority("root", allowed, None);
            let (middle, by_middle) = authority("middle", None, Some(&by_root));
            let (low, by_low) = authority("low", None, Some(&by_middle));
            let key = rcgen::KeyPair::generate().expect("key");
            let leaf = rcgen::CertificateParams::default()
                .signed_by(&key, &by_low)
                .expect("certificate");
            let brought = [Blob(low), Blob(middle)];
            EkRoots::new(vec![root])
                .expect("root")
                .verify_with(leaf.der(), &brought, &ek(), NOW)
        };
        // The walk ends well where only the key is another one.
        assert_eq!(judge(None), Err(CertificateError::Key));
        assert_eq!(judge(Some(2)), Err(CertificateError::Key));
        let refused = judge(Some(1)).expect_err("two below it");
        assert_eq!(
            refused,
            CertificateError::TooLong {
                issuer: "CN=root".into()
            }
        );
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
