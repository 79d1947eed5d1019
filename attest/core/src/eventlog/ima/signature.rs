//! Signatures of files as the kernel's integrity code stores them (security.ima, `struct signature_v2_hdr`): a header with hash
//! algorithm and key id, and an RSA (PKCS #1) or ECDSA signature over the file's digest.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::extensions::ParsedExtension;

use crate::certificate::{self, CertificateError};
use crate::tpm::PublicKey;

/// EVM_IMA_XATTR_DIGSIG.
const DIGSIG: u8 = 3;
/// DIGSIG_VERSION_2.
const VERSION: u8 = 2;

/// Why a file's signature does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FileSignatureError {
    /// The file has none.
    #[error("the file is not signed")]
    None,
    /// Not of the one form that is known.
    #[error("its signature is not of the kernel's version 2")]
    Malformed,
    /// By a key that the policy does not name.
    #[error("it is signed by the key {0:08x}, which the policy does not name")]
    UnknownKey(u32),
    /// A hash that does not count, or another than the digest's.
    #[error("its signature and its digest have different hashes, or one that does not count")]
    Hash,
    /// Not by that key over that digest.
    #[error("its signature is not by the key {0:08x} over this digest")]
    Mismatch(u32),
}

/// A key that may sign files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    key: PublicKey,
    id: u32,
}

impl Signer {
    /// From one PEM certificate. Its chain and its validity are the policy's business: the kernel looks at neither.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let ders = certificate::pem_to_ders(pem.as_bytes())?;
        let [der] = ders.as_slice() else {
            return Err(CertificateError::Malformed);
        };
        let certificate = certificate::from_der(der)?;
        let key = PublicKey::from_spki(certificate.public_key()).ok_or(CertificateError::Key)?;
        let named = certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        // Without the extension, the kernel and evmctl take SHA-1 of the key bits (RFC 5280, 4.2.1.2, method 1).
        let id = named.unwrap_or_else(|| {
            let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.subject_public_key());
            sha1.as_ref().to_vec()
        });
        let last = id.last_chunk::<4>().ok_or(CertificateError::Malformed)?;
        Ok(Self {
            key,
            id: u32::from_be_bytes(*last),
        })
    }
}

/// Verifies `signature` by one of `signers` over `digest`, which is of the algorithm with this name.
pub fn verify(signature: &[u8], algorithm: &str, digest: &[u8], signers: &[Signer]) -> Result<(), FileSignatureError> {
    if signature.is_empty() {
        return Err(FileSignatureError::None);
    }
    let [DIGSIG, VERSION, hash, a, b, c, d, high, low, value @ ..] = signature else {
        return Err(FileSignatureError::Malformed);
    };
    if value.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return Err(FileSignatureError::Malformed);
    }
    let id = u32::from_be_bytes([*a, *b, *c, *d]);
    let mut named = signers.iter().filter(|signer| signer.id == id).peekable();
    if named.peek().is_none() {
        return Err(FileSignatureError::UnknownKey(id));
    }
    let hash = Hash::from_kernel(*hash).filter(|hash| hash.name() == algorithm);
    let hash = hash.ok_or(FileSignatureError::Hash)?;
    let digest = Digest::import_less_safe(digest, hash.provider()).map_err(|_| FileSignatureError::Hash)?;
    let signed = named.any(|signer| {
        UnparsedPublicKey::new(hash.scheme(&signer.key), signer.key.subject_public_key())
            .verify_digest(&digest, value)
            .is_ok()
    });
    if signed {
        Ok(())
    } else {
        Err(FileSignatureError::Mismatch(id))
    }
}

/// Hashes that count, by the kernel's numbers (include/uapi/linux/hash_info.h).
#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn from_kernel(number: u8) -> Option<Self> {
        match number {
            4 => Some(Self::Sha256),
            5 => Some(Self::Sha384),
            6 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn provider(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn scheme(self, key: &PublicKey) -> &'static dyn VerificationAlgorithm {
        use crate::tpm::KeyKind::*;
        match (key.kind(), self) {
            (Rsa2048 | Rsa3072, Self::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
            (Rsa2048 | Rsa3072, Self::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
            (Rsa2048 | Rsa3072, Self::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
            (P256, Self::Sha256) => &ECDSA_P256_SHA256_ASN1,
            (P256, Self::Sha384) => &ECDSA_P256_SHA384_ASN1,
            (P256, Self::Sha512) => &ECDSA_P256_SHA512_ASN1,
            (P384, Self::Sha256) => &ECDSA_P384_SHA256_ASN1,
            (P384, Self::Sha384) => &ECDSA_P384_SHA384_ASN1,
            (P384, Self::Sha512) => &ECDSA_P384_SHA512_ASN1,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    use rcgen::{CertificateParams, KeyIdMethod, KeyPair};

    use super::*;

    const FILE: &[u8] = b"#!/bin/sh\n";

    struct Owner {
        pair: EcdsaKeyPair,
        signer: Signer,
    }

    fn owner() -> Owner {
        let key = KeyPair::generate().expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).expect("key");
        let mut params = CertificateParams::default();
        params.key_identifier_method = KeyIdMethod::Sha256;
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let certificate = params.self_signed(&key).expect("certificate").pem();
        Owner {
            pair,
            signer: Signer::from_pem(&certificate).expect("signer"),
        }
    }

    fn digest() -> [u8; 32] {
        crate::bytes::sha256(FILE).0
    }

    fn xattr(owner: &Owner, hash: u8) -> Vec<u8> {
        let value = owner.pair.sign(&SystemRandom::new(), FILE).expect("signs");
        let length = u16::try_from(value.as_ref().len()).expect("short");
        let mut out = vec![DIGSIG, VERSION, hash];
        out.extend_from_slice(&owner.signer.id.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.as_ref());
        out
    }

    #[test]
    fn a_signature_counts_for_its_key_digest_and_hash_only() {
        let (one, two) = (owner(), owner());
        let good = xattr(&one, 4);
        let verify = |signature: &[u8], algorithm, digest: &[u8], signer: &Owner| {
            super::verify(signature, algorithm, digest, std::slice::from_ref(&signer.signer))
        };
        assert_eq!(verify(&good, "sha256", &digest(), &one), Ok(()));
        assert_eq!(
            verify(&good, "sha256", &[1; 32], &one),
            Err(FileSignatureError::Mismatch(one.signer.id))
        );
        assert_eq!(
            verify(&good, "sha256", &digest(), &two),
            Err(FileSignatureError::UnknownKey(one.signer.id))
        );
        assert_eq!(verify(&good, "sha512", &digest(), &one), Err(FileSignatureError::Hash));
        assert_eq!(
            verify(&xattr(&one, 2), "sha1", &digest()[..20], &one),
            Err(FileSignatureError::Hash)
        );
        assert_eq!(verify(b"", "sha256", &digest(), &one), Err(FileSignatureError::None));
    }

    #[test]
    fn a_key_id_that_two_keys_share_decides_nothing() {
        let (one, two) = (owner(), owner());
        let twin = Signer {
            id: one.signer.id,
            ..two.signer
        };
        let refused = verify(&xattr(&one, 4), "sha256", &digest(), std::slice::from_ref(&twin));
        assert_eq!(refused, Err(FileSignatureError::Mismatch(one.signer.id)));
        assert_eq!(
            verify(&xattr(&one, 4), "sha256", &digest(), &[twin, one.signer.clone()]),
            Ok(())
        );
    }

    #[test]
    fn other_forms_and_every_truncation_are_refused() {
        let one = owner();
        let good = xattr(&one, 4);
        for len in 1..good.len() {
            let refused = verify(&good[..len], "sha256", &digest(), std::slice::from_ref(&one.signer));
            assert_eq!(refused, Err(FileSignatureError::Malformed));
        }
        for at in [0, 1] {
            let mut other = good.clone();
            other[at] ^= 1;
            let refused = verify(&other, "sha256", &digest(), std::slice::from_ref(&one.signer));
            assert_eq!(refused, Err(FileSignatureError::Malformed));
        }
    }
}
