//! Sealing to an attested key by HPKE (RFC 9180), base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//! The purpose goes into `info`, so that a sealed result can never be opened as a bundle of secrets or the other way round.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::bytes::{Blob, Fixed};

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An Attestation Result; associated data = the challenge's bytes.
    Ear,
    /// Secrets of the Verifier's own store; associated data = the result's `jti` as bytes.
    Secrets,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Ear => b"rempart ear v1",
            Self::Secrets => b"rempart secrets v1",
        }
    }
}

/// Why sealing or opening failed. Deliberately without detail: an attacker learns nothing from it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HpkeError {
    /// The peer's key is no X25519 point or the provider failed.
    #[error("cannot seal to the peer's key")]
    Seal,
    /// Not sealed to this key for this purpose and context, or changed on the way.
    #[error("what the Verifier sent was not sealed to this key for this exchange")]
    Open,
    /// The provider has no randomness.
    #[error("cannot make an X25519 key")]
    Generate,
}

/// A sealed message with what its receiver needs to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// AEAD ciphertext with its tag.
    pub sealed: Blob,
    /// Encapsulated key, 32 bytes.
    pub encapsulated: Blob,
}

/// A key made for one attestation; the private half is wiped on drop.
pub struct EphemeralKey {
    public: Fixed<32>,
    private: HpkePrivateKey,
}

impl EphemeralKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, HpkeError> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| HpkeError::Generate)?;
        let public = Fixed::try_from(public.0.as_slice()).map_err(|_| HpkeError::Generate)?;
        Ok(Self { public, private })
    }

    /// The half that Evidence and `cnf` carry.
    pub fn public(&self) -> &Fixed<32> {
        &self.public
    }

    /// Opens what was sealed to this key for `purpose` under `aad`.
    pub fn open(&self, purpose: Purpose, aad: &[u8], message: &Sealed) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
        let encapsulated = EncapsulatedSecret(message.encapsulated.0.clone());
        SUITE
            .open(&encapsulated, purpose.info(), aad, &message.sealed.0, &self.private)
            .map(Zeroizing::new)
            .map_err(|_| HpkeError::Open)
    }
}

impl std::fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EphemeralKey({})", self.public)
    }
}

/// Seals `plaintext` to `public` for `purpose` under `aad`.
pub fn seal(purpose: Purpose, public: &Fixed<32>, aad: &[u8], plaintext: &[u8]) -> Result<Sealed, HpkeError> {
    let public = HpkePublicKey(public.0.to_vec());
    let (encapsulated, sealed) = SUITE
        .seal(purpose.info(), aad, plaintext, &public)
        .map_err(|_| HpkeError::Seal)?;
    Ok(Sealed {
        sealed: Blob(sealed),
        encapsulated: Blob(encapsulated.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_purpose_and_context_it_was_sealed_for_open_it() {
        let key = EphemeralKey::generate().expect("key");
        let message = seal(Purpose::Ear, key.public(), b"challenge", b"result").expect("sealed");
        assert_eq!(
            key.open(Purpose::Ear, b"challenge", &message)
                .expect("opens")
                .as_slice(),
            b"result"
        );
        assert_eq!(key.open(Purpose::Ear, b"another", &message), Err(HpkeError::Open));
        assert_eq!(key.open(Purpose::Secrets, b"challenge", &message), Err(HpkeError::Open));
        let other = EphemeralKey::generate().expect("key");
        assert_eq!(other.open(Purpose::Ear, b"challenge", &message), Err(HpkeError::Open));
    }

    #[test]
    fn a_changed_byte_and_a_short_key_do_not_open() {
        let key = EphemeralKey::generate().expect("key");
        let mut message = seal(Purpose::Secrets, key.public(), b"", b"value").expect("sealed");
        message.sealed.0[0] ^= 1;
        assert_eq!(key.open(Purpose::Secrets, b"", &message), Err(HpkeError::Open));
        message.encapsulated.0.truncate(5);
        assert_eq!(key.open(Purpose::Secrets, b"", &message), Err(HpkeError::Open));
    }
}
