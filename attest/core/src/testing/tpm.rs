//! A TPM in software: it attests whatever it is told to, which a real one would not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use x509_parser::prelude::FromDer;

use crate::bytes::Blob;
use crate::evidence::KeyCertification;
use crate::pcr::Pcrs;
use crate::tpm::attest::{self, ClockInfo};
use crate::tpm::public::tls;
use crate::tpm::{Hash, KeyKind, PublicKey, alg, certify, quote, signature};

/// Kinds of AK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkKind {
    /// ECDSA P-256 with SHA-256.
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
    /// RSA-2048, RSASSA with SHA-256.
    RsaSsa,
    /// RSA-2048, RSAPSS with SHA-256.
    RsaPss,
    /// RSA-3072, RSASSA with SHA-256.
    RsaSsa3072,
}

enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

/// An AK, a TLS key and a clock.
pub struct SoftTpm {
    signer: Signer,
    scheme: u16,
    hash: Hash,
    tls: EcdsaKeyPair,
    /// The AK.
    pub key: PublicKey,
    /// What it says of time.
    pub clock: ClockInfo,
}

impl SoftTpm {
    /// With a new AK.
    pub fn new(kind: AkKind) -> Self {
        let (signer, scheme, hash) = match kind {
            AkKind::P256 => (ecdsa(KeyKind::P256), alg::ECDSA, Hash::Sha256),
            AkKind::P384 => (ecdsa(KeyKind::P384), alg::ECDSA, Hash::Sha384),
            AkKind::RsaSsa => (rsa(KeySize::Rsa2048, &RSA_PKCS1_SHA256), alg::RSASSA, Hash::Sha256),
            AkKind::RsaPss => (rsa(KeySize::Rsa2048, &RSA_PSS_SHA256), alg::RSAPSS, Hash::Sha256),
            AkKind::RsaSsa3072 => (rsa(KeySize::Rsa3072, &RSA_PKCS1_SHA256), alg::RSASSA, Hash::Sha256),
        };
        Self {
            key: public(&signer),
            signer,
            scheme,
            hash,
            tls: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key"),
            clock: ClockInfo {
                clock: 90_000,
                reset_count: 7,
                restart_count: 0,
                safe: true,
                firmware_version: 0x2019_1023_0016_3636,
            },
        }
    }

    /// TPMT_SIGNATURE by the AK.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let raw = match &self.signer {
            Signer::Ecdsa(pair) => pair.sign(&random, message).expect("signs").as_ref().to_vec(),
            Signer::Rsa(pair, encoding) => {
                let mut raw = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut raw).expect("signs");
                raw
            }
        };
        signature::build(self.key.kind(), self.scheme, self.hash, &raw)
    }

    /// TPMS_ATTEST of a quote over the pinned registers.
    pub fn quote<'a>(&self, qualifying_data: &'a [u8], pcrs: &Pcrs, attested: &'a mut Vec<u8>) -> attest::Build<'a> {
        let digest = pcrs.digest(self.hash.into());
        *attested = quote::build(&[(pcrs.bank.tpm_alg(), &quote::PINNED)], digest.as_bytes());
        self.attest(attest::QUOTE, qualifying_data, attested)
    }

    /// TPMS_ATTEST of any type.
    pub fn attest<'a>(&self, kind: u16, qualifying_data: &'a [u8], attested: &'a [u8]) -> attest::Build<'a> {
        attest::Build {
            magic: attest::GENERATED,
            kind,
            extra_data: qualifying_data,
            clock: self.clock,
            attested,
        }
    }

    /// TPM2_Certify of the TLS key with `attributes`, as a primary of `hierarchy`.
    pub fn certify(&self, qualifying_data: &[u8], attributes: u32, hierarchy: u32) -> KeyCertification {
        let public = tls::build(attributes, self.tls.public_key().as_ref());
        let attested = certify::build(&public, hierarchy);
        let attest = self.attest(attest::CERTIFY, qualifying_data, &attested).bytes();
        KeyCertification {
            signature: Blob(self.sign(&attest)),
            public: Blob(public),
            attest: Blob(attest),
        }
    }
}

fn ecdsa(kind: KeyKind) -> Signer {
    let algorithm = match kind {
        KeyKind::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
    };
    Signer::Ecdsa(EcdsaKeyPair::generate(algorithm).expect("key"))
}

fn rsa(size: KeySize, encoding: &'static dyn RsaEncoding) -> Signer {
    Signer::Rsa(RsaKeyPair::generate(size).expect("key"), encoding)
}

fn public(signer: &Signer) -> PublicKey {
    match signer {
        Signer::Ecdsa(pair) => {
            let point = &pair.public_key().as_ref()[1..];
            let kind = if point.len() == 96 {
                KeyKind::P384
            } else {
                KeyKind::P256
            };
            let (x, y) = point.split_at(kind.len());
            PublicKey::ecc(kind, x, y).expect("a point")
        }
        Signer::Rsa(pair, _) => {
            let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(pair.public_key().as_ref()).expect("DER");
            let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
            PublicKey::rsa(modulus, 65537).expect("a key")
        }
    }
}
