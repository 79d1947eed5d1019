//! TPM structures that a node sends. Where tests have a writer, what is read is written again and compared with what came in.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use rempart_attest::pcr::Bank;
use rempart_attest::testing::{AkKind, SoftTpm};
use rempart_attest::tpm::certify::Certification;
use rempart_attest::tpm::public::tls::{self, TlsPublic};
use rempart_attest::tpm::signature::Signature;
use rempart_attest::tpm::{AkPublic, EkPublic, PublicKey, Quote, attest, credential, public, quote};

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "tpms-attest",
        from: "quotes and key certifications, by the node",
        max_len: 512,
        memory: Memory::OURS,
        runs: 40_000,
        run: attestation,
        seeds: attestations,
    },
    Target {
        name: "tpm2b-public",
        from: "the public areas of AK, EK and TLS key, by the node",
        max_len: 1024,
        memory: Memory::OURS,
        runs: 40_000,
        run: public_area,
        seeds: public_areas,
    },
    Target {
        name: "tpmt-signature",
        from: "the TPM's signatures, by the node",
        max_len: 512,
        memory: Memory::OURS,
        runs: 10_000,
        run: signature,
        seeds: || Keys::get().0.iter().map(|tpm| tpm.sign(b"another message")).collect(),
    },
    Target {
        name: "credential",
        from: "an EK that a credential is made for",
        max_len: 1024,
        memory: Memory::OURS,
        runs: 5_000,
        run: credential,
        seeds: public_areas,
    },
    Target {
        name: "public-key",
        from: "a SubjectPublicKeyInfo in certificates and tokens",
        max_len: 1024,
        memory: Memory::OURS,
        runs: 20_000,
        run: public_key,
        seeds: || Keys::get().0.iter().map(|tpm| tpm.key.spki()).collect(),
    },
];

/// TPM_ST_ATTEST_QUOTE, and where qualifiedSigner begins and ends in what tests write: they name no signer.
const QUOTE: u16 = 0x8018;
const CERTIFY: u16 = 0x8017;
const SIGNER: std::ops::Range<usize> = 6..8 + 34;
const EK: &[u8] = include_bytes!("../../../fixtures/ek/ek.pub");

/// Keys that sign no message of any target.
struct Keys(Vec<SoftTpm>);

impl Keys {
    fn get() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| {
            Self(
                [AkKind::P256, AkKind::P384, AkKind::RsaSsa, AkKind::RsaPss]
                    .map(SoftTpm::new)
                    .into(),
            )
        })
    }
}

fn attestation(data: &[u8]) {
    for bank in [Bank::Sha256, Bank::Sha384] {
        let Ok(read) = Quote::parse(data, bank) else { continue };
        let attested = quote::build(&[(bank.tpm_alg(), &quote::PINNED)], read.pcr_digest.as_bytes());
        let written = attest::Build {
            magic: attest::GENERATED,
            kind: QUOTE,
            extra_data: &read.extra_data,
            clock: read.clock,
            attested: &attested,
        }
        .bytes();
        let signer = usize::from(u16::from_be_bytes([data[6], data[7]]));
        assert_eq!(written[..SIGNER.start], data[..SIGNER.start]);
        assert_eq!(written[SIGNER.end..], data[8 + signer..]);
        assert!(Certification::parse(data).is_err(), "a quote passes as a certification");
    }
    if let Ok(read) = Certification::parse(data) {
        assert!(data.windows(read.extra_data.len().max(1)).any(|w| w == read.extra_data) || read.extra_data.is_empty());
    }
}

fn attestations() -> Vec<Vec<u8>> {
    let clock = SoftTpm::new(AkKind::P256).clock;
    let build = |kind, attested: &[u8]| {
        let magic = attest::GENERATED;
        attest::Build {
            magic,
            kind,
            extra_data: &[5; 32],
            clock,
            attested,
        }
        .bytes()
    };
    let tls_key = tls::build(tls::ATTRIBUTES, &point());
    vec![
        build(
            QUOTE,
            &quote::build(&[(Bank::Sha256.tpm_alg(), &quote::PINNED)], &[6; 32]),
        ),
        build(
            QUOTE,
            &quote::build(&[(Bank::Sha384.tpm_alg(), &quote::PINNED)], &[6; 48]),
        ),
        build(CERTIFY, &rempart_attest::tpm::certify::build(&tls_key, 0x4000_000b)),
    ]
}

/// An uncompressed point that nobody has the key of.
fn point() -> [u8; 65] {
    let mut point = [7; 65];
    point[0] = 4;
    point
}

/// Accepted keys have the attributes by which they count, no key passes as another kind, and a Name is what Part 1 says.
fn public_area(data: &[u8]) {
    let attributes = || u32::from_be_bytes(data[6..10].try_into().expect("four bytes"));
    let demand = |with: u32, without: u32| {
        assert_eq!(
            (attributes() & with, attributes() & without),
            (with, 0),
            "attributes {:#x}",
            attributes()
        );
    };
    let (ak, ek, tls_key) = (AkPublic::parse(data), EkPublic::parse(data), TlsPublic::parse(data));
    let accepted = [ak.is_ok(), ek.is_ok(), tls_key.is_ok()];
    assert!(
        accepted.iter().filter(|ok| **ok).count() <= 1,
        "one key passes as two kinds"
    );
    if let Ok(ak) = ak {
        // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; not decrypt.
        demand(1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18, 1 << 17);
        assert_eq!(ak.name().as_ref(), name(data));
        assert_eq!(PublicKey::from_spki_der(&ak.key().spki()).as_ref(), Some(ak.key()));
    }
    if let Ok(ek) = ek {
        // fixedTPM, fixedParent, restricted, decrypt; not sign.
        demand(1 << 1 | 1 << 4 | 1 << 16 | 1 << 17, 1 << 18);
        assert_eq!(ek.name().as_ref(), name(data));
        assert_eq!(ek.fingerprint().0, digest(&SHA256, &data[2..]).as_ref());
    }
    if tls_key.is_ok() {
        // fixedTPM, fixedParent, sensitiveDataOrigin, sign; not restricted, not decrypt.
        demand(1 << 1 | 1 << 4 | 1 << 5 | 1 << 18, 1 << 16 | 1 << 17);
    }
}

/// nameAlg and its digest of the TPMT_PUBLIC (Part 1, 16).
fn name(tpm2b: &[u8]) -> Vec<u8> {
    let (algorithm, area) = (&tpm2b[4..6], &tpm2b[2..]);
    let hash = if algorithm == [0, 0x0b] { &SHA256 } else { &SHA384 };
    [algorithm, digest(hash, area).as_ref()].concat()
}

fn public_areas() -> Vec<Vec<u8>> {
    let (ecc, tls_key) = (
        public::ek::ecc_ek_template(&[1; 32], &[2; 32]),
        tls::build(tls::ATTRIBUTES, &point()),
    );
    vec![EK.to_vec(), ecc, tls_key, ecc_ak(), rsa_ak()]
}

/// TPM2B_PUBLIC of an AK: type, nameAlg, attributes, no policy, no symmetric algorithm, scheme, then the key.
fn ak(kind: u16, rest: &[u8]) -> Vec<u8> {
    let mut area = [kind, 0x000b].map(u16::to_be_bytes).concat();
    area.extend(0x0005_0072_u32.to_be_bytes());
    area.extend([0, 0, 0, 0x10]);
    area.extend(rest);
    let len = u16::try_from(area.len()).expect("short").to_be_bytes();
    [&len, area.as_slice()].concat()
}

fn ecc_ak() -> Vec<u8> {
    let point = point();
    let scheme = [0x0018, 0x000b, 0x0003, 0x0010].map(u16::to_be_bytes).concat();
    ak(
        0x0023,
        &[scheme.as_slice(), &[0, 32], &point[1..33], &[0, 32], &point[33..]].concat(),
    )
}

fn rsa_ak() -> Vec<u8> {
    let scheme = [0x0014, 0x000b, 2048].map(u16::to_be_bytes).concat();
    let modulus = &EK[EK.len() - 256..];
    ak(0x0001, &[scheme.as_slice(), &[0; 4], &[1, 0], modulus].concat())
}

fn signature(data: &[u8]) {
    let Ok(signature) = Signature::parse(data) else { return };
    for tpm in &Keys::get().0 {
        assert!(
            signature.verify(&tpm.key, b"a message that nobody signed").is_err(),
            "a forged signature counts"
        );
    }
}

/// A credential for any EK that is accepted can be made or is refused, and its parts fill what they say.
fn credential(data: &[u8]) {
    let Ok(ek) = EkPublic::parse(data) else { return };
    static AK: OnceLock<AkPublic> = OnceLock::new();
    let ak = AK.get_or_init(|| AkPublic::parse(&ecc_ak()).expect("an AK"));
    if let Ok(made) = credential::make(&ek, ak.name(), &[1; 32]) {
        for part in [&made.blob.0, &made.encrypted_secret.0] {
            assert_eq!(usize::from(u16::from_be_bytes([part[0], part[1]])), part.len() - 2);
        }
    }
}

/// What is read is written so that it is read as the same.
fn public_key(data: &[u8]) {
    let Some(key) = PublicKey::from_spki_der(data) else {
        return;
    };
    assert_eq!(PublicKey::from_spki_der(&key.spki()), Some(key));
}
