//! Policies: their text, who signed them, and the images that they are predicted from.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ciborium::Value;
use coset::iana::Algorithm;
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable};
use rempart_attest::Digest;
use rempart_attest::policy::instant::Instant;
use rempart_attest::policy::predict::{Options, predict};
use rempart_attest::policy::release::signatures::{PcrSignatures, ReleaseKey};
use rempart_attest::policy::signature::AllowedSigners;
use rempart_attest::policy::{Policy, corim};

use super::{Memory, Target};
use crate::uki;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "policy",
        from: "a policy file, before and after its signature",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 6_000,
        run: policy,
        seeds: policies,
    },
    Target {
        name: "policy-signature",
        from: "a policy's SSHSIG and the operator's allowed signers",
        max_len: 2048,
        // The reader of SSH keys reserves up to 1 MiB by a length that stands in the signature.
        memory: Memory {
            base: 2 << 20,
            factor: 32,
        },
        runs: 10_000,
        run: signature,
        seeds: signatures,
    },
    Target {
        name: "pcr-signatures",
        from: "the image's signatures over PCR 11, by the node",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: pcr_signatures,
        seeds: || vec![PCR_SIGNATURES.to_vec(), OTHER_PCR_SIGNATURES.to_vec()],
    },
    Target {
        name: "corim",
        from: "reference values of others (CoRIM), by whoever delivers them",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 10_000,
        run: corim,
        seeds: corims,
    },
    Target {
        name: "corim-signed",
        from: "a signed CoRIM (COSE_Sign1), by whoever delivers it",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 4_000,
        run: signed_corim,
        seeds: signed_corims,
    },
    Target {
        name: "instant",
        from: "moments in policies and allowed signers",
        max_len: 32,
        memory: Memory::OURS,
        runs: 20_000,
        run: instant,
        seeds: || {
            vec![
                b"2027-01-15T08:00:00Z".to_vec(),
                b"20270115080000Z".to_vec(),
                b"202701150800Z".to_vec(),
            ]
        },
    },
    Target {
        name: "image",
        from: "a unified kernel image",
        max_len: 8192,
        // The prediction builds the initrd that the stub would hand over.
        memory: Memory {
            base: 256 << 10,
            factor: 32,
        },
        runs: 20_000,
        run: image,
        seeds: || vec![uki::whole(), uki::smallest()],
    },
];

const TEXT: &[u8] = include_bytes!("../../../fixtures/policy/text");
const OWNER: &str = include_str!("../../../fixtures/policy/owner.pub");
const SECOND: &str = include_str!("../../../fixtures/policy/second.pub");
const BY_OWNER: &str = include_str!("../../../fixtures/policy/text.owner.sig");
const BY_SECOND: &str = include_str!("../../../fixtures/policy/text.second.sig");
const FOR_FILES: &str = include_str!("../../../fixtures/policy/text.file.sig");

const PCR_SIGNATURES: &[u8] = include_bytes!("../../../fixtures/pcrsig/signatures.json");
const OTHER_PCR_SIGNATURES: &[u8] = include_bytes!("../../../fixtures/pcrsig/other.json");
const RELEASE_KEY: &str = include_str!("../../../fixtures/pcrsig/release.pub");
/// When the policy's signers sign.
const NOW: u64 = 1_800_000_000;

/// What is read is written so that it is read as the same.
fn policy(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else { return };
    assert!(!policy.images.is_empty(), "an empty policy");
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy));
}

fn policies() -> Vec<Vec<u8>> {
    let predicted = predict(&uki::whole(), &Options::default()).map(|policy| policy.to_toml().into_bytes());
    predicted.into_iter().collect()
}

/// Allowed signers, NUL, signature; over a text that both signers signed.
fn signature(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (signers, signature) = text.split_once('\0').unwrap_or((text, BY_OWNER));
    let _judged = owner().verify(TEXT, signature, NOW, 1);
    let Ok(signers) = AllowedSigners::parse(signers) else {
        return;
    };
    let _judged = signers.verify(TEXT, signature, NOW, 1);
    assert!(
        signers.verify(b"another text", signature, NOW, 1).is_err(),
        "a signature over another text counts"
    );
    let many = signers.verify(TEXT, signature, NOW, 2);
    assert!(
        many.is_err() || many.is_ok_and(|who| who[0] != who[1]),
        "one signer counts twice"
    );
}

fn owner() -> &'static AllowedSigners {
    static SIGNERS: OnceLock<AllowedSigners> = OnceLock::new();
    SIGNERS.get_or_init(|| AllowedSigners::parse(&format!("owner {OWNER}")).expect("a fixture"))
}

fn signatures() -> Vec<Vec<u8>> {
    let both = format!("# ours\nowner@example {OWNER}\nsecond@example namespaces=\"file,rempart-policy\" {SECOND}\n");
    let timed = format!("a valid-after=\"20270101Z\",valid-before=\"20280101Z\" {OWNER}");
    let two = format!("{both}\0{BY_OWNER}{BY_SECOND}");
    [BY_OWNER, BY_SECOND, FOR_FILES]
        .map(|signature| format!("{both}\0{signature}"))
        .into_iter()
        .chain([two, timed])
        .map(String::into_bytes)
        .collect()
}

/// Nobody has signed a register of ones.
fn pcr_signatures(data: &[u8]) {
    let Ok(signatures) = PcrSignatures::parse(data) else {
        return;
    };
    static KEY: OnceLock<ReleaseKey> = OnceLock::new();
    let key = KEY.get_or_init(|| ReleaseKey::from_pem(RELEASE_KEY).expect("a fixture"));
    for value in [[1; 32].as_slice(), &[1; 48]] {
        let value = Digest::from_bytes(value).expect("the size of a bank");
        assert!(
            signatures.verify(key, 11, &value).is_err(),
            "a register that nobody signed counts"
        );
    }
}

/// What is imported is a policy that is accepted, and is exported so that the whole of it is imported again.
fn corim(data: &[u8]) {
    if let Ok(policy) = corim::import(data, None, Instant(NOW)) {
        is_the_same_again(&policy);
    }
}

fn is_the_same_again(policy: &Policy) {
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()).as_ref(), Ok(policy));
    let unsaid = corim::unsaid(policy);
    assert!(unsaid.is_empty(), "a CoRIM said what none can say: {unsaid:?}");
    let exported = corim::export(policy).expect("what a CoRIM said can be said");
    let mut again = corim::import(&exported, None, Instant(NOW)).expect("our own CoRIM");
    let mut first = policy.clone();
    // Alternatives have no order.
    for image in first.images.iter_mut().chain(&mut again.images) {
        (0..24)
            .filter_map(|pcr| image.accepted_mut(pcr).map(|values| values.sort_unstable()))
            .for_each(drop);
    }
    assert_eq!(again, first);
}

fn corims() -> Vec<Vec<u8>> {
    let export = |policy: &Policy| corim::export(policy).ok();
    let Ok(predicted) = predict(&uki::whole(), &Options::default()) else {
        return vec![];
    };
    let mut two = predicted.clone();
    two.name = "two images, two values, one window".into();
    let mut second = two.images[0].clone();
    second.name = "second".into();
    two.images.push(second);
    for image in &mut two.images {
        image
            .accepted_mut(11)
            .into_iter()
            .for_each(|values| values.push(Digest::from_bytes(&[7; 32]).expect("SHA-256")));
        (image.not_before, image.not_after) = (Some(Instant(NOW - 1000)), Some(Instant(NOW + 1000)));
    }
    [predicted, two].iter().filter_map(export).collect()
}

/// Whatever stands in the headers and the content, signed by the named key: what lies behind the signature is reached, and without that
/// signature nothing counts.
fn signed_corim(data: &[u8]) {
    let key = &signer().1;
    let foreign = corim::import(data, Some(key), Instant(NOW));
    let Ok(message) = CoseSign1::from_tagged_slice(data) else {
        assert!(foreign.is_err(), "what is no COSE_Sign1 counts as signed");
        return;
    };
    assert!(
        corim::import(data, None, Instant(NOW)).is_err(),
        "a signature that nobody verified"
    );
    let (protected, payload) = (message.protected.header, message.payload);
    let mut builder = CoseSign1Builder::new()
        .protected(protected)
        .unprotected(message.unprotected);
    if let Some(payload) = &payload {
        builder = builder.payload(payload.clone());
    }
    let sign = |data: &[u8]| signer().0.sign(data).as_ref().to_vec();
    let Ok(signed) = builder.create_signature(b"", sign).build().to_tagged_vec() else {
        return;
    };
    let Ok(policy) = corim::import(&signed, Some(key), Instant(NOW)) else {
        return;
    };
    is_the_same_again(&policy);
    let unsigned = corim::import(&payload.expect("it was imported"), None, Instant(NOW));
    assert_eq!(unsigned.as_ref(), Ok(&policy), "the signed content and no other");
    let mut forged = signed.clone();
    *forged.last_mut().expect("a signature") ^= 1;
    assert!(
        corim::import(&forged, Some(key), Instant(NOW)).is_err(),
        "a changed signature counts"
    );
}

/// The same in each process, so that kept inputs keep their signatures.
fn signer() -> &'static (Ed25519KeyPair, corim::SigningKey) {
    static SIGNER: OnceLock<(Ed25519KeyPair, corim::SigningKey)> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("DER");
        let body = BASE64_STANDARD.encode(spki.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        (pair, corim::SigningKey::from_pem(&pem).expect("Ed25519"))
    })
}

fn signed_corims() -> Vec<Vec<u8>> {
    let header = || {
        HeaderBuilder::new()
            .algorithm(Algorithm::EdDSA)
            .content_type("application/rim+cbor".into())
    };
    let cbor = |value: &Value| {
        let mut out = Vec::new();
        ciborium::into_writer(value, &mut out).expect("a Vec takes every byte");
        out
    };
    let time = |seconds: u64| Value::Tag(1, Box::new(seconds.into()));
    let who = Value::Map(vec![(0.into(), Value::Text("owner".into()))]);
    let validity = Value::Map(vec![(0.into(), time(NOW - 1)), (1.into(), time(NOW + 1))]);
    let meta = Value::Bytes(cbor(&Value::Map(vec![(0.into(), who), (1.into(), validity)])));
    let claims = Value::Map(vec![(4.into(), (NOW + 1).into()), (5.into(), (NOW - 1).into())]);
    let headers = [header(), header().value(8, meta), header().value(15, claims)];
    let sign = |data: &[u8]| signer().0.sign(data).as_ref().to_vec();
    let signed = |(header, payload): (HeaderBuilder, Vec<u8>)| {
        let builder = CoseSign1Builder::new().protected(header.build()).payload(payload);
        builder.create_signature(b"", sign).build().to_tagged_vec().ok()
    };
    let payloads = corims().into_iter().cycle();
    headers.into_iter().zip(payloads).filter_map(signed).collect()
}

/// A moment is written so that it is read as the same.
fn instant(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for moment in [Instant::from_rfc3339(text), Instant::from_openssh(text)]
        .into_iter()
        .flatten()
    {
        assert_eq!(Instant::from_rfc3339(&moment.to_string()), Some(moment));
    }
}

/// A prediction is a policy that is accepted.
fn image(data: &[u8]) {
    let Ok(policy) = predict(data, &Options::default()) else {
        return;
    };
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy));
}
