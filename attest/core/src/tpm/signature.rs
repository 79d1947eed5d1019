//! TPMT_SIGNATURE (Part 2, 11.3.4): ECDSA with SHA-256 over P-256 and nothing else.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::alg;
use super::public::coordinate;
use super::wire::{Reader, WireError, demand};

/// Why a signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// Not well formed or of another scheme.
    #[error("the quote's signature cannot be accepted: {0}")]
    Wire(#[from] WireError),
    /// Not made by the key over the message.
    #[error("the quote was not signed by the attestation key of this node's certificate")]
    Mismatch,
}

/// Verifies a TPMT_SIGNATURE by the key with the uncompressed SEC1 `point` over `message`.
pub fn verify(point: &[u8; 65], message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    let raw = parse(signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(message, &raw)
        .map_err(|_| SignatureError::Mismatch)
}

fn parse(signature: &[u8]) -> Result<[u8; 64], WireError> {
    let mut from = Reader::new(signature);
    demand("sigAlg", from.u16("sigAlg")?, alg::ECDSA)?;
    demand("hash", from.u16("hash")?, alg::SHA256)?;
    let mut raw = [0; 64];
    raw[..32].copy_from_slice(&coordinate(&mut from, "signatureR")?);
    raw[32..].copy_from_slice(&coordinate(&mut from, "signatureS")?);
    from.end()?;
    Ok(raw)
}

/// TPMT_SIGNATURE from a raw one, for tests.
#[cfg(test)]
pub(crate) fn build(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&alg::ECDSA.to_be_bytes());
    out.extend_from_slice(&alg::SHA256.to_be_bytes());
    super::wire::put_sized(&mut out, &raw[..32]);
    super::wire::put_sized(&mut out, &raw[32..]);
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    fn key() -> (EcdsaKeyPair, [u8; 65]) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        let point = key.public_key().as_ref().try_into().expect("uncompressed point");
        (key, point)
    }

    #[test]
    fn only_the_signed_message_under_the_signing_key_verifies() {
        let (signer, point) = key();
        let raw = signer.sign(&SystemRandom::new(), b"quote").expect("signs");
        let signature = build(raw.as_ref());
        assert_eq!(verify(&point, b"quote", &signature), Ok(()));
        assert_eq!(verify(&point, b"other", &signature), Err(SignatureError::Mismatch));
        assert_eq!(verify(&key().1, b"quote", &signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn another_scheme_or_hash_is_refused() {
        let mut rsa = build(&[1; 64]);
        rsa[1] = 0x14;
        assert!(matches!(verify(&[4; 65], b"", &rsa), Err(SignatureError::Wire(_))));
        let mut sha1 = build(&[1; 64]);
        sha1[3] = 4;
        assert!(matches!(verify(&[4; 65], b"", &sha1), Err(SignatureError::Wire(_))));
    }
}
