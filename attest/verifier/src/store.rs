//! Encryption of the embedded store: AES-256-GCM under the store key, name and role as associated data, so that a value moved to
//! another name or role in the database does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::random;

const DOMAIN: &str = "rempart-secret-v1";

/// Seals and opens values.
pub struct StoreKey(LessSafeKey);

/// Why a value does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the stored value of \"{0}\" does not open: the database was changed, or the store key is another one")]
pub struct OpenError(String);

impl StoreKey {
    /// From 32 bytes.
    pub fn new(key: &[u8; 32]) -> Result<Self, Error> {
        UnboundKey::new(&AES_256_GCM, key)
            .map(|k| Self(LessSafeKey::new(k)))
            .map_err(|_| Error::Crypto("no AES key"))
    }

    /// Nonce and ciphertext. A random nonce is safe for some four billion values under one key; a store has thousands.
    pub fn seal(&self, name: &str, role: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = random::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(value.to_vec());
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context(name, role)),
                &mut text,
            )
            .map_err(|_| Error::Crypto("no AES-GCM"))?;
        Ok([nonce.as_slice(), &text, tag.as_ref()].concat())
    }

    /// The value.
    pub fn open(&self, name: &str, role: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let fail = || OpenError(name.into());
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fail)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fail())?;
        let mut text = Zeroizing::new(text.to_vec());
        let len = self
            .0
            .open_in_place(nonce, Aad::from(context(name, role)), &mut text)
            .map_err(|_| fail())?
            .len();
        text.truncate(len);
        Ok(text)
    }
}

/// CBOR, so that no two pairs of name and role have the same bytes.
fn context(name: &str, role: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(&(DOMAIN, name, role), &mut out).expect("a Vec takes every byte");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_under_its_own_key_name_and_role() {
        let key = StoreKey::new(&[1; 32]).expect("key");
        let sealed = key.seal("kv/web#key", "web", b"value").expect("sealed");
        assert_eq!(
            key.open("kv/web#key", "web", &sealed).expect("opens").as_slice(),
            b"value"
        );
        assert!(key.open("kv/web#key2", "web", &sealed).is_err());
        assert!(key.open("kv/web#key", "billing", &sealed).is_err());
        assert!(
            StoreKey::new(&[2; 32])
                .expect("key")
                .open("kv/web#key", "web", &sealed)
                .is_err()
        );
        assert!(key.open("kv/web#key", "web", &sealed[..5]).is_err());
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let key = StoreKey::new(&[1; 32]).expect("key");
        assert_ne!(
            key.seal("n", "r", b"v").expect("sealed"),
            key.seal("n", "r", b"v").expect("sealed")
        );
    }
}
