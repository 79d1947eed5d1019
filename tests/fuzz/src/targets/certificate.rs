//! Certificates. A changed one has no valid signature any more, so each input is tried twice: as it is, and as the inner part
//! (TBSCertificate) of a certificate that a trusted authority signed. So everything behind the signature check is reached too.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rempart_attest::ak;
use rempart_attest::ek::EkRoots;
use rempart_attest::tpm::EkPublic;

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "ak-certificate",
        from: "the AK certificate in the Evidence, by the node",
        max_len: 2048,
        memory: Memory::OURS,
        runs: 5_000,
        run: ak_certificate,
        seeds: certificates,
    },
    Target {
        name: "ek-certificate",
        from: "the EK certificate at enrolment, by the node",
        max_len: 2048,
        memory: Memory::OURS,
        runs: 5_000,
        run: ek_certificate,
        seeds: certificates,
    },
];

const NOW: u64 = 1_800_000_000;
const EK: &[u8] = include_bytes!("../../../fixtures/ek/ek.pub");
const EK_CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/ek/ek.der");

/// One that signs whatever it is given.
struct Authority {
    der: Vec<u8>,
    pkcs8: Vec<u8>,
    key: EcdsaKeyPair,
    roots: EkRoots,
    ek: EkPublic,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate().expect("a key");
        let der = authority_params()
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec();
        let pkcs8 = key.serialize_der();
        Authority {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).expect("the same key"),
            pkcs8,
            roots: EkRoots::new(vec![der.clone()]).expect("a certificate"),
            ek: EkPublic::parse(EK).expect("a fixture"),
            der,
        }
    })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

fn ak_certificate(data: &[u8]) {
    for der in [data, signed(data).as_slice()] {
        let pem = pem(der);
        if let Ok(certificate) = ak::verify(&pem, &authority().der, "demo-1", NOW) {
            assert!(
                der.windows(6).any(|window| window == b"demo-1"),
                "a certificate for another node counts"
            );
            let _shown = format!("{certificate:?}");
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _judged = ak::verify(text, &authority().der, "demo-1", NOW);
    }
}

fn ek_certificate(data: &[u8]) {
    for der in [data, signed(data).as_slice()] {
        let _judged = authority().roots.verify(der, &authority().ek, NOW);
    }
}

fn pem(der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// `inner` as the TBSCertificate of a certificate by the authority (RFC 5280, 4.1).
fn signed(inner: &[u8]) -> Vec<u8> {
    const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let signature = authority().key.sign(&SystemRandom::new(), inner).expect("signs");
    let bits = [&[0], signature.as_ref()].concat();
    tlv(0x30, &[inner, &ECDSA_WITH_SHA256, &tlv(0x03, &bits)].concat())
}

/// A DER element with a length of two bytes, or one where it suffices.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len())
        .expect("inputs are below 64 KiB")
        .to_be_bytes();
    let header: &[u8] = match content.len() {
        0..0x80 => &[tag, len[1]],
        0x80..0x100 => &[tag, 0x81, len[1]],
        _ => &[tag, 0x82, len[0], len[1]],
    };
    [header, content].concat()
}

/// The TBSCertificate inside of a certificate.
fn inner(der: &[u8]) -> Vec<u8> {
    let header = |at: usize| match der[at + 1] {
        0x82 => (4, usize::from(u16::from_be_bytes([der[at + 2], der[at + 3]]))),
        0x81 => (3, usize::from(der[at + 2])),
        short => (2, usize::from(short)),
    };
    let (outside, _) = header(0);
    let (own, len) = header(outside);
    der[outside..outside + own + len].to_vec()
}

/// As the Verifier and as manufacturers make them, and ones with extensions that are not understood.
fn certificates() -> Vec<Vec<u8>> {
    let issuer_key = KeyPair::try_from(authority().pkcs8.as_slice()).expect("the same key");
    let issuer = Issuer::new(authority_params(), issuer_key);
    let leaf = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "demo-1");
        params
            .distinguished_name
            .push(DnType::CustomDnType(vec![2, 5, 4, 5]), "ee".repeat(32));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(ak::AIK_PURPOSE.to_vec())];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        inner(params.signed_by(&key, &issuer).expect("a certificate").der())
    };
    vec![
        leaf(&|_| ()),
        leaf(&|params| {
            let mut strange = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            strange.set_criticality(true);
            params.custom_extensions.push(strange);
        }),
        leaf(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])]),
        inner(EK_CERTIFICATE),
        EK_CERTIFICATE.to_vec(),
    ]
}
