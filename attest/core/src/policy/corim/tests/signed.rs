//! Signed CoRIMs: what counts, and each way in which a signature does not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use coset::iana::Algorithm;
use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable};

use super::*;

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key"))
    }

    fn key(&self) -> SigningKey {
        let spki = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.0.public_key());
        let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, spki.expect("der").as_ref());
        SigningKey::from_pem(&format!(
            "-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
        ))
        .expect("key")
    }

    fn sign(&self, payload: &[u8], header: HeaderBuilder) -> Vec<u8> {
        let sign = |data: &[u8]| {
            self.0
                .sign(&SystemRandom::new(), data)
                .expect("signs")
                .as_ref()
                .to_vec()
        };
        let builder = CoseSign1Builder::new()
            .protected(header.build())
            .payload(payload.to_vec());
        builder
            .create_signature(b"", sign)
            .build()
            .to_tagged_vec()
            .expect("encodes")
    }
}

fn header() -> HeaderBuilder {
    HeaderBuilder::new()
        .algorithm(Algorithm::ES256)
        .content_type(CONTENT_TYPE.into())
}

/// corim-meta with a signature validity.
fn meta(from: u64, until: u64) -> Value {
    let time = |seconds: u64| Value::Tag(1, Box::new(seconds.into()));
    let validity = Value::Map(vec![(0.into(), time(from)), (1.into(), time(until))]);
    let signer = Value::Map(vec![(0.into(), Value::Text("owner".into()))]);
    Value::Bytes(encode(&Value::Map(vec![(0.into(), signer), (1.into(), validity)])))
}

#[test]
fn a_signature_by_the_named_key_counts() {
    let signer = Signer::new();
    let signed = signer.sign(&unsigned(&policy()), header());
    assert_eq!(import(&signed, Some(&signer.key()), NOW), Ok(policy()));
    let dated = signer.sign(&unsigned(&policy()), header().value(8, meta(NOW.0 - 1, NOW.0 + 1)));
    assert_eq!(import(&dated, Some(&signer.key()), NOW), Ok(policy()));
}

#[test]
fn signed_and_unsigned_are_never_taken_for_each_other() {
    let signer = Signer::new();
    let bytes = unsigned(&policy());
    assert_eq!(import(&bytes, Some(&signer.key()), NOW), Err(CorimError::NotSigned));
    assert_eq!(
        import(&signer.sign(&bytes, header()), None, NOW),
        Err(CorimError::NoKey)
    );
}

#[test]
fn a_signature_that_does_not_count_is_refused_by_reason() {
    let (signer, other) = (Signer::new(), Signer::new());
    let bytes = unsigned(&policy());
    let refused = |signed: &[u8]| import(signed, Some(&signer.key()), NOW).expect_err("refused");
    let by_other = other.sign(&bytes, header());
    assert_eq!(
        refused(&by_other),
        CorimError::Signature("it is not by the given key over this content")
    );
    let mut changed = signer.sign(&bytes, header());
    let name = changed
        .windows(10)
        .position(|w| w == b"demo image")
        .expect("the policy's name");
    changed[name] ^= 1;
    assert_eq!(
        refused(&changed),
        CorimError::Signature("it is not by the given key over this content")
    );
    let named = |algorithm| {
        signer.sign(
            &bytes,
            HeaderBuilder::new()
                .algorithm(algorithm)
                .content_type(CONTENT_TYPE.into()),
        )
    };
    for algorithm in [Algorithm::ES384, Algorithm::EdDSA, Algorithm::HMAC_256_256] {
        assert!(matches!(refused(&named(algorithm)), CorimError::Signature(why) if why.contains("another algorithm")));
    }
    let other_type = HeaderBuilder::new()
        .algorithm(Algorithm::ES256)
        .content_type("application/cwt".into());
    assert!(
        matches!(refused(&signer.sign(&bytes, other_type)), CorimError::Signature(why) if why.contains("content type"))
    );
    let critical = header().add_critical(coset::iana::HeaderParameter::Kid);
    assert!(matches!(refused(&signer.sign(&bytes, critical)), CorimError::Signature(why) if why.contains("critical")));
    let early = signer.sign(&bytes, header().value(8, meta(NOW.0 + 1, NOW.0 + 2)));
    assert!(matches!(refused(&early), CorimError::Early { .. }));
    let late = signer.sign(&bytes, header().value(8, meta(NOW.0 - 2, NOW.0 - 1)));
    assert!(matches!(refused(&late), CorimError::Expired { what: "signature", .. }));
    let claims = Value::Map(vec![(4.into(), (NOW.0 - 1).into())]);
    let late = signer.sign(&bytes, header().value(15, claims));
    assert!(matches!(refused(&late), CorimError::Expired { what: "signature", .. }));
}

#[test]
fn keys_of_other_kinds_are_refused() {
    let rsa = include_str!("../../../../../../tests/fixtures/pcrsig/release.pub");
    for text in ["", "rubbish", rsa, &rsa.replace("PUBLIC", "PRIVATE")] {
        assert!(SigningKey::from_pem(text).is_err());
    }
}
