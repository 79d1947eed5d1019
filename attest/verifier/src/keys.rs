//! The Verifier's own keys, one file each in the state directory, readable by their owner only.
//! signing.key: P-256 PKCS#8 for results. ca.key and ca.pem: authority for AK certificates.
//! client-ca.key and client-ca.pem: authority for client certificates of TLS keys in TPMs. token.key: 32 bytes for the MACs of
//! challenges and enrolment tokens. store.key: 32 bytes that the secrets are encrypted under.

use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rempart_attest::bytes::sha256;
use rempart_attest::ear::Signer;
use zeroize::Zeroizing;

use crate::authority::{Authority, Kind};
use crate::config::Config;
use crate::error::Error;
use crate::file;

/// Signs results.
pub struct SigningKey {
    jwt: Signer,
    point: Vec<u8>,
}

/// All keys of a running Verifier.
pub struct Keys {
    /// For results.
    pub signing: SigningKey,
    /// For AK certificates.
    pub authority: Authority,
    /// For client certificates.
    pub clients: Authority,
    /// For challenges.
    pub challenge: hmac::Key,
    /// For enrolment tokens.
    pub enrolment: hmac::Key,
}

impl SigningKey {
    fn load(path: &Path) -> Result<Self, Error> {
        let pkcs8 = Zeroizing::new(file::read(path)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| Error::Key {
            path: path.into(),
            what: "a P-256 key",
        })?;
        let point = pair.public_key().as_ref().to_vec();
        let kid = hex::encode(&sha256(&point).0[..8]);
        Ok(Self {
            jwt: Signer::new(&pkcs8, kid),
            point,
        })
    }

    /// Ready for signing, read once.
    pub fn jwt(&self) -> &Signer {
        &self.jwt
    }

    /// Uncompressed SEC1 point.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// Its name in the JWK set.
    pub fn kid(&self) -> &str {
        self.jwt.kid()
    }
}

impl Keys {
    /// Loads all keys that a configuration names.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let token = secret32(&config.state_dir.join("token.key"))?;
        // One key a purpose: a token of one kind must never pass as the other.
        let derive = |purpose: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_ref()), purpose);
            hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
        };
        Ok(Self {
            signing: SigningKey::load(&config.state_dir.join("signing.key"))?,
            authority: Authority::load(&config.state_dir, Kind::Ak)?,
            clients: Authority::load(&config.state_dir, Kind::Client)?,
            challenge: derive(b"rempart challenge v1"),
            enrolment: derive(b"rempart enrolment v1"),
        })
    }

    /// Makes all keys in an empty state directory.
    pub fn create(dir: &Path) -> Result<(), Error> {
        let signing = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::Crypto("no P-256 key"))?;
        file::create(&dir.join("signing.key"), 0o600, signing.as_ref())?;
        Authority::create(dir, Kind::Ak)?;
        Authority::create(dir, Kind::Client)?;
        for name in ["token.key", "store.key"] {
            file::create(&dir.join(name), 0o600, &*random::<32>()?)?;
        }
        Ok(())
    }
}

/// A file of exactly 32 bytes.
pub fn secret32(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let bytes = Zeroizing::new(file::read(path)?);
    let array = bytes.as_slice().try_into().map_err(|_| Error::Key {
        path: path.into(),
        what: "32 bytes",
    })?;
    Ok(Zeroizing::new(array))
}

/// Fresh random bytes.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut out = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(out.as_mut_slice())
        .map_err(|_| Error::Crypto("no randomness"))?;
    Ok(out)
}
