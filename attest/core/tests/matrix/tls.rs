//! The certified TLS key.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rempart_attest::testing::{AkKind, SoftTpm};
use rempart_attest::tpm::public::tls;

use super::scene::{QUOTE, Scene, ordinary, rsa};
use super::{Case, case};

const ENDORSEMENT: u32 = 0x4000_000b;
const PLATFORM: u32 = 0x4000_000c;
const RESTRICTED: u32 = 1 << 16;

fn with_key() -> Scene {
    let mut scene = ordinary();
    scene.node.certify(&mut scene.evidence);
    scene
}

fn rsa_with_key() -> Scene {
    let mut scene = rsa();
    scene.node.certify(&mut scene.evidence);
    scene
}

fn recertify(scene: &mut Scene, attributes: u32, hierarchy: u32) {
    let binding = scene.node.binding(&scene.evidence).0;
    scene.evidence.tpm.tls_key = Some(scene.node.tpm.certify(&binding[..32], attributes, hierarchy));
}

fn key(scene: &mut Scene) -> &mut rempart_attest::evidence::KeyCertification {
    scene.evidence.tpm.tls_key.as_mut().expect("the scene has one")
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("another TLS key than was certified", with_key, |s| {
        let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        key(s).public.0 = tls::build(tls::ATTRIBUTES, other.public_key().as_ref());
    }, &["tls-key-name"]),
    case("TLS key whose attributes were embellished", with_key, |s| {
        let attributes = tls::ATTRIBUTES | (1 << 7);
        let point = key(s).public.0.clone();
        let (x, y) = (point[point.len() - 66..point.len() - 34].to_vec(), point[point.len() - 32..].to_vec());
        key(s).public.0 = tls::build(attributes, &[&[4][..], &x, &y].concat());
    }, &["tls-key-name"]),
    case("restricted TLS key", with_key, |s| recertify(s, tls::ATTRIBUTES | RESTRICTED, ENDORSEMENT), &["tls-key-public"]),
    case("imported TLS key (no sensitiveDataOrigin)", with_key, |s| {
        recertify(s, tls::ATTRIBUTES & !(1 << 5), ENDORSEMENT);
    }, &["tls-key-public"]),
    case("TLS key without fixedTPM", with_key, |s| recertify(s, tls::ATTRIBUTES & !(1 << 1), ENDORSEMENT), &["tls-key-public"]),
    case("TLS key of the platform hierarchy", with_key, |s| recertify(s, tls::ATTRIBUTES, PLATFORM), &["tls-key-hierarchy"]),
    case("TLS key certified for another exchange", with_key, |s| {
        s.evidence.tpm.tls_key = Some(s.node.tpm.certify(&[9; 32], tls::ATTRIBUTES, ENDORSEMENT));
    }, &["tls-key-binding"]),
    case("TLS key certified by another AK", with_key, |s| {
        let binding = s.node.binding(&s.evidence).0;
        let other = SoftTpm::new(AkKind::P256);
        s.evidence.tpm.tls_key = Some(other.certify(&binding[..32], tls::ATTRIBUTES, ENDORSEMENT));
    }, &["tls-key-signature"]),
    case("changed signature over the TLS key", rsa_with_key, |s| key(s).signature.0[50] ^= 1, &["tls-key-signature"]),
    case("quote passed as certification", with_key, |s| {
        let quote = s.evidence.tpm.quote.0.clone();
        assert_eq!(quote[4..6], QUOTE.to_be_bytes());
        key(s).signature.0 = s.evidence.tpm.signature.0.clone();
        key(s).attest.0 = quote;
    }, &["tls-key-certification"]),
];
