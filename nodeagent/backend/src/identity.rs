//! A client certificate over a key that this process can use and not read, for a server that authenticates by TLS.
//!
//! The key lies in the TPM; rustls hands the digest of the transcript out through [`ResidentKey`] and gets a signature back.
//! Must never hold a private key, and must never present a certificate over another key than the one that signs: the server
//! would refuse it with a word that leads nowhere. RFC 8446, 4.4.3 (CertificateVerify); RFC 8422, 5.1.1 for the signature's form.

use std::{fmt::Debug, sync::Arc};

use aws_lc_rs::digest;
use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    sign::{CertifiedKey, Signer, SigningKey},
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};

use crate::error::one_line;

/// The only scheme of the key: ECDSA on P-256 with SHA-256.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
/// Certificates read from the Verifier's PEM: a leaf, and one intermediate at most.
const MAX_CHAIN: usize = 2;

/// A P-256 signing key that does not leave its device.
pub trait ResidentKey: Debug + Send + Sync {
    /// DER SubjectPublicKeyInfo.
    fn spki(&self) -> &[u8];
    /// DER ECDSA signature (SEQUENCE of r and s) over the SHA-256 digest `digest`. Blocks for as long as the device takes.
    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, String>;
}

/// What the Verifier issued cannot be used as a client certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not one or two PEM certificates.
    #[error("verifier sent a client certificate that is none: {0}; bring node and Verifier to the same release")]
    VerifierMalformed(String),
    /// Over another key.
    #[error(
        "verifier sent a client certificate for another key than this node's; bring node and Verifier to the same release"
    )]
    VerifierOtherKey,
}

/// A certificate and the key it is for.
#[derive(Clone, Debug)]
pub struct Identity(pub(crate) Arc<CertifiedKey>);

impl Identity {
    /// Takes the certificate in `pem`, leaf first, for `key`.
    pub fn new(pem: &str, key: Arc<dyn ResidentKey>) -> Result<Self, IdentityError> {
        let malformed = |why: String| IdentityError::VerifierMalformed(one_line(&why));
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(MAX_CHAIN + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed(error.to_string()))?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(malformed(format!("{} certificates in it", chain.len())));
        }
        let certified = CertifiedKey::new(chain, Arc::new(Resident(key)));
        match certified.keys_match() {
            Ok(()) => Ok(Self(Arc::new(certified))),
            Err(Error::InconsistentKeys(_)) => Err(IdentityError::VerifierOtherKey),
            Err(error) => Err(malformed(error.to_string())),
        }
    }
}

#[derive(Clone, Debug)]
struct Resident(Arc<dyn ResidentKey>);

impl SigningKey for Resident {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SCHEME)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.spki()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Resident {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let digest = digest::digest(&digest::SHA256, message);
        let digest: [u8; 32] = digest
            .as_ref()
            .try_into()
            .map_err(|_| Error::General("SHA-256 gave no 32 bytes".into()))?;
        self.0
            .sign(&digest)
            .map_err(|why| Error::General(format!("the TPM did not sign the handshake: {}", one_line(&why))))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for a TPM that refuses; what one signs is proven against a real server in the daemon's tests.
    #[derive(Debug)]
    struct Dead(Vec<u8>);

    impl ResidentKey for Dead {
        fn spki(&self) -> &[u8] {
            &self.0
        }
        fn sign(&self, _: &[u8; 32]) -> Result<Vec<u8>, String> {
            Err("TPM_RC_LOCKOUT".into())
        }
    }

    fn certificate() -> (String, Vec<u8>) {
        let key = rcgen::KeyPair::generate().expect("P-256");
        let made = rcgen::CertificateParams::new(Vec::new()).expect("names");
        let pem = made.self_signed(&key).expect("signed").pem();
        (pem, rcgen::PublicKeyData::subject_public_key_info(&key))
    }

    #[test]
    fn a_certificate_over_another_key_is_refused_before_any_server_sees_it() {
        let (pem, spki) = certificate();
        assert!(Identity::new(&pem, Arc::new(Dead(spki))).is_ok());
        let (_, other) = certificate();
        let refused = Identity::new(&pem, Arc::new(Dead(other))).expect_err("another key");
        assert_eq!(refused, IdentityError::VerifierOtherKey);
    }

    #[test]
    fn what_is_no_chain_of_one_or_two_is_refused() {
        let (pem, spki) = certificate();
        for wrong in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &pem.repeat(3),
        ] {
            let refused = Identity::new(wrong, Arc::new(Dead(spki.clone())));
            assert!(matches!(refused, Err(IdentityError::VerifierMalformed(_))), "{wrong}");
        }
    }

    #[test]
    fn only_its_own_scheme_is_chosen_and_a_refusing_device_fails_the_handshake_in_words() {
        let key = Resident(Arc::new(Dead(Vec::new())));
        assert!(
            key.choose_scheme(&[SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256])
                .is_none()
        );
        let signer = key.choose_scheme(&[SignatureScheme::ED25519, SCHEME]).expect("its own");
        let error = signer.sign(b"transcript").expect_err("dead").to_string();
        assert!(error.contains("TPM_RC_LOCKOUT"), "{error}");
    }

    /// Gives the digest back in the place of a signature.
    #[derive(Debug)]
    struct Mirror;

    impl ResidentKey for Mirror {
        fn spki(&self) -> &[u8] {
            &[]
        }
        fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, String> {
            Ok(digest.to_vec())
        }
    }

    #[test]
    fn the_device_is_given_the_digest_of_the_message_and_nothing_else() {
        let signed = Resident(Arc::new(Mirror)).sign(b"transcript").expect("mirrored");
        assert_eq!(signed, digest::digest(&digest::SHA256, b"transcript").as_ref());
    }
}
