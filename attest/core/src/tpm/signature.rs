//! TPMT_SIGNATURE (Part 2, 11.3.4): RSASSA, RSAPSS and ECDSA with SHA-256 or SHA-384. SHA-1 and every other scheme are refused.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::key::{KeyKind, PublicKey};
use super::wire::{Reader, WireError};
use super::{Hash, alg};

/// Longest salt (Part 1, B.7): what TPMs take that follow the library specification and not FIPS 186-4.
static PSS_SHA256_LONG: RsaParameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
static PSS_SHA384_LONG: RsaParameters = RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);

/// The provider's verifiers that a signature may count for: one, or for RSAPSS one for each length of salt.
type Algorithms = [Option<&'static dyn VerificationAlgorithm>; 2];

/// Why a signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// Not well formed.
    #[error("the TPM's signature cannot be read: {0}")]
    Wire(#[from] WireError),
    /// A scheme or hash that does not count, or not with this kind of key.
    #[error("a signature by scheme {scheme:#06x} with {hash} does not count for the node's {key} attestation key")]
    Scheme {
        /// TPM_ALG_ID.
        scheme: u16,
        /// The hash, in words.
        hash: &'static str,
        /// The certified key's kind.
        key: KeyKind,
    },
    /// Not made by the key over the message.
    #[error("it was not signed by the attestation key of this node's certificate")]
    Mismatch,
}

/// A signature as it stands, not yet verified.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    scheme: u16,
    hash: u16,
    /// One value of RSA; R and S of ECDSA.
    values: (&'a [u8], &'a [u8]),
}

impl<'a> Signature<'a> {
    /// Reads a TPMT_SIGNATURE that fills the buffer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut from = Reader::new(bytes);
        let scheme = from.u16("sigAlg")?;
        let hash = from.u16("hash")?;
        let values = match scheme {
            alg::RSASSA | alg::RSAPSS => (from.sized("sig")?, &[][..]),
            alg::ECDSA => (from.sized("signatureR")?, from.sized("signatureS")?),
            found => {
                return Err(WireError::Value {
                    what: "sigAlg",
                    expected: alg::ECDSA.into(),
                    found: found.into(),
                });
            }
        };
        from.end()?;
        Ok(Self { scheme, hash, values })
    }

    /// The hash that it was made with, when that counts. TPM2_Quote uses the same one for pcrDigest (Part 3, 18.4).
    pub fn hash(&self) -> Option<Hash> {
        Hash::from_alg(self.hash)
    }

    /// Verifies it by `key` over `message`.
    pub fn verify(&self, key: &PublicKey, message: &[u8]) -> Result<(), SignatureError> {
        let refused = SignatureError::Scheme {
            scheme: self.scheme,
            hash: super::hash::name_of(self.hash),
            key: key.kind(),
        };
        let algorithms = match key.kind() {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => self.rsa(),
            kind => self.ecdsa(kind),
        };
        if algorithms.iter().all(Option::is_none) {
            return Err(refused);
        }
        let raw = if key.kind().is_ecc() {
            self.fixed(key.kind().len())?
        } else {
            self.values.0.to_vec()
        };
        let verifies = |algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, key.subject_public_key())
                .verify(message, &raw)
                .is_ok()
        };
        if algorithms.into_iter().flatten().any(verifies) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    fn rsa(&self) -> Algorithms {
        match (self.scheme, self.hash()) {
            (alg::RSASSA, Some(Hash::Sha256)) => [Some(&RSA_PKCS1_2048_8192_SHA256), None],
            (alg::RSASSA, Some(Hash::Sha384)) => [Some(&RSA_PKCS1_2048_8192_SHA384), None],
            (alg::RSAPSS, Some(Hash::Sha256)) => [Some(&RSA_PSS_2048_8192_SHA256), Some(&PSS_SHA256_LONG)],
            (alg::RSAPSS, Some(Hash::Sha384)) => [Some(&RSA_PSS_2048_8192_SHA384), Some(&PSS_SHA384_LONG)],
            _ => [None, None],
        }
    }

    fn ecdsa(&self, kind: KeyKind) -> Algorithms {
        match (self.scheme, self.hash(), kind) {
            (alg::ECDSA, Some(Hash::Sha256), KeyKind::P256) => [Some(&ECDSA_P256_SHA256_FIXED), None],
            (alg::ECDSA, Some(Hash::Sha384), KeyKind::P384) => [Some(&ECDSA_P384_SHA384_FIXED), None],
            _ => [None, None],
        }
    }

    /// R and S, each of `len` bytes: a TPM may drop leading zeros.
    fn fixed(&self, len: usize) -> Result<Vec<u8>, WireError> {
        let mut raw = super::wire::padded(self.values.0, len, "signatureR")?;
        raw.extend(super::wire::padded(self.values.1, len, "signatureS")?);
        Ok(raw)
    }
}

/// TPMT_SIGNATURE from a provider's raw one.
#[cfg(any(test, feature = "testing"))]
pub fn build(kind: KeyKind, scheme: u16, hash: Hash, raw: &[u8]) -> Vec<u8> {
    let mut out = [scheme.to_be_bytes(), hash.alg().to_be_bytes()].concat();
    if kind.is_ecc() {
        super::wire::put_sized(&mut out, &raw[..kind.len()]);
        super::wire::put_sized(&mut out, &raw[kind.len()..]);
    } else {
        super::wire::put_sized(&mut out, raw);
    }
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair, RsaSignatureEncoding,
    };
    use x509_parser::prelude::FromDer;

    use super::*;

    fn ecc(kind: KeyKind) -> (EcdsaKeyPair, PublicKey) {
        let algorithm = match kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let pair = EcdsaKeyPair::generate(algorithm).expect("key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(kind.len());
        let key = PublicKey::ecc(kind, x, y).expect("key");
        (pair, key)
    }

    fn rsa(size: KeySize) -> (RsaKeyPair, PublicKey) {
        let pair = RsaKeyPair::generate(size).expect("key");
        let der = pair.public_key().as_der().expect("der");
        let (_, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der.as_ref()).expect("spki");
        let key = PublicKey::from_spki(&spki).expect("key");
        (pair, key)
    }

    fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        Signature::parse(signature)?.verify(key, message)
    }

    fn counts_for_its_message_and_key_only(key: &PublicKey, other: &PublicKey, signature: &[u8]) {
        assert_eq!(verify(key, b"quote", signature), Ok(()));
        assert_eq!(verify(key, b"other", signature), Err(SignatureError::Mismatch));
        assert_eq!(verify(other, b"quote", signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn ecdsa_over_both_curves() {
        for (kind, hash) in [(KeyKind::P256, Hash::Sha256), (KeyKind::P384, Hash::Sha384)] {
            let (pair, key) = ecc(kind);
            let raw = pair.sign(&SystemRandom::new(), b"quote").expect("signs");
            let signature = build(kind, alg::ECDSA, hash, raw.as_ref());
            counts_for_its_message_and_key_only(&key, &ecc(kind).1, &signature);
        }
    }

    #[test]
    fn rsa_in_both_schemes_with_both_hashes_and_both_salt_lengths() {
        static LONG: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
        let cases: [(u16, Hash, &'static dyn RsaEncoding); 5] = [
            (alg::RSASSA, Hash::Sha256, &RSA_PKCS1_SHA256),
            (alg::RSASSA, Hash::Sha384, &RSA_PKCS1_SHA384),
            (alg::RSAPSS, Hash::Sha256, &RSA_PSS_SHA256),
            (alg::RSAPSS, Hash::Sha384, &RSA_PSS_SHA384),
            (alg::RSAPSS, Hash::Sha256, &LONG),
        ];
        let ((pair, key), (_, other)) = (rsa(KeySize::Rsa2048), rsa(KeySize::Rsa2048));
        for (scheme, hash, encoding) in cases {
            let mut raw = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), b"quote", &mut raw)
                .expect("signs");
            let signature = build(KeyKind::Rsa2048, scheme, hash, &raw);
            counts_for_its_message_and_key_only(&key, &other, &signature);
        }
    }

    #[test]
    fn a_scheme_or_hash_that_does_not_fit_the_key_is_refused_by_name() {
        let (_, p256) = ecc(KeyKind::P256);
        let (_, rsa) = rsa(KeySize::Rsa2048);
        let ecdsa = build(KeyKind::P256, alg::ECDSA, Hash::Sha256, &[1; 64]);
        let rsassa = build(KeyKind::Rsa2048, alg::RSASSA, Hash::Sha256, &[1; 256]);
        let mut sha1 = ecdsa.clone();
        sha1[3] = 4;
        let wrong_curve_hash = build(KeyKind::P256, alg::ECDSA, Hash::Sha384, &[1; 64]);
        for (key, signature) in [
            (&rsa, &ecdsa),
            (&p256, &rsassa),
            (&p256, &sha1),
            (&p256, &wrong_curve_hash),
        ] {
            let refused = verify(key, b"", signature).expect_err("refused");
            assert!(matches!(refused, SignatureError::Scheme { .. }), "{refused}");
        }
        assert!(
            verify(&p256, b"", &sha1)
                .expect_err("sha1")
                .to_string()
                .contains("sha1")
        );
        let mut hmac = ecdsa;
        hmac[1] = 5;
        assert!(matches!(verify(&p256, b"", &hmac), Err(SignatureError::Wire(_))));
    }

    #[test]
    fn an_over_long_number_is_refused() {
        let (_, key) = ecc(KeyKind::P256);
        let mut long = [alg::ECDSA.to_be_bytes(), alg::SHA256.to_be_bytes()].concat();
        super::super::wire::put_sized(&mut long, &[1; 33]);
        super::super::wire::put_sized(&mut long, &[1; 32]);
        assert!(matches!(
            verify(&key, b"", &long),
            Err(SignatureError::Wire(WireError::TooLong { .. }))
        ));
    }
}
