//! TPM2_MakeCredential in software (Part 1, 24 and annex B.10.4; Part 3, 12.6) for an RSA-2048 EK with the default template:
//! only a TPM that holds both the EK and an object with exactly this Name gives the secret back.

use aws_lc_rs::cipher::{AES_128, AES_128_KEY_LEN, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents};
use zeroize::Zeroizing;

use super::public::{EkPublic, Name};
use super::wire::put_sized;
use crate::bytes::Blob;

/// OAEP label; the terminating zero belongs to it.
const LABEL: &[u8] = b"IDENTITY\0";

/// What goes to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// TPM2B_ID_OBJECT.
    pub blob: Blob,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: Blob,
}

/// Why a credential cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialError {
    /// Modulus or exponent are no RSA key.
    #[error("the node's EK is not a usable RSA key")]
    Key,
    /// The provider failed.
    #[error("the cryptographic provider failed while making a credential")]
    Provider,
}

/// Makes a credential for `secret`; `seed` is 32 fresh random bytes.
pub fn make(ek: &EkPublic, ak: &Name, secret: &[u8; 32], seed: &[u8; 32]) -> Result<Credential, CredentialError> {
    let encrypted_seed = encrypt_seed(ek, seed)?;
    let identity = encrypt_identity(&kdfa(seed, b"STORAGE", ak, 128), secret)?;
    let integrity = hmac::Key::new(hmac::HMAC_SHA256, &kdfa(seed, b"INTEGRITY", &[], 256));
    let mac = hmac::sign(&integrity, &[identity.as_slice(), ak].concat());

    let mut id_object = Vec::new();
    put_sized(&mut id_object, mac.as_ref());
    id_object.extend_from_slice(&identity);
    let mut blob = Vec::new();
    put_sized(&mut blob, &id_object);
    let mut encrypted_secret = Vec::new();
    put_sized(&mut encrypted_secret, &encrypted_seed);
    Ok(Credential {
        blob: Blob(blob),
        encrypted_secret: Blob(encrypted_secret),
    })
}

fn encrypt_seed(ek: &EkPublic, seed: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let exponent = ek.exponent.to_be_bytes();
    let significant = exponent.iter().position(|b| *b != 0).ok_or(CredentialError::Key)?;
    let components = PublicKeyComponents {
        n: ek.modulus.as_slice(),
        e: &exponent[significant..],
    };
    let key: PublicEncryptingKey = components.try_into().map_err(|_| CredentialError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| CredentialError::Key)?;
    let mut out = vec![0; key.ciphertext_size()];
    let written = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, seed, &mut out, Some(LABEL))
        .map_err(|_| CredentialError::Provider)?
        .len();
    out.truncate(written);
    Ok(out)
}

/// AES-128-CFB with a zero vector, as Part 1 24.4 says: the key is used once.
fn encrypt_identity(key: &[u8], secret: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let mut identity = Vec::new();
    put_sized(&mut identity, secret);
    let key = UnboundCipherKey::new(&AES_128, &key[..AES_128_KEY_LEN]).map_err(|_| CredentialError::Provider)?;
    let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    EncryptingKey::cfb128(key)
        .and_then(|key| key.less_safe_encrypt(&mut identity, context))
        .map_err(|_| CredentialError::Provider)?;
    Ok(identity)
}

/// KDFa of Part 1, 11.4.10.2 with HMAC-SHA256 and an empty second context; `bits` ≤ 256, therefore one block.
fn kdfa(key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Zeroizing<Vec<u8>> {
    let mut input = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    input.update(&1u32.to_be_bytes());
    input.update(label);
    input.update(&[0]);
    input.update(context);
    input.update(&bits.to_be_bytes());
    let block = input.sign();
    Zeroizing::new(block.as_ref()[..(bits / 8) as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::*;
    use crate::tpm::public::default_ek_template;

    fn ek() -> (PrivateDecryptingKey, EkPublic) {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("key");
        let der = private.public_key().as_der().expect("der").as_ref().to_vec();
        // The modulus of an RSA-2048 key in a SubjectPublicKeyInfo: 256 bytes before the exponent's five.
        let modulus = &der[der.len() - 5 - 256..der.len() - 5];
        let ek = EkPublic::parse(&default_ek_template(modulus)).expect("template");
        (private, ek)
    }

    #[test]
    fn the_holder_of_the_ek_recovers_the_seed_and_the_sizes_are_the_tpms() {
        let (private, ek) = ek();
        let credential = make(&ek, &[7; 34], &[1; 32], &[2; 32]).expect("made");
        assert_eq!(credential.blob.0.len(), 2 + 2 + 32 + 2 + 32);
        assert_eq!(credential.encrypted_secret.0.len(), 2 + 256);
        let key = OaepPrivateDecryptingKey::new(private).expect("key");
        let mut out = vec![0; key.min_output_size()];
        let seed = key.decrypt(
            &OAEP_SHA256_MGF1SHA256,
            &credential.encrypted_secret.0[2..],
            &mut out,
            Some(LABEL),
        );
        assert_eq!(seed.expect("opens"), &[2; 32]);
    }

    #[test]
    fn another_name_gives_another_blob() {
        let (_, ek) = ek();
        let one = make(&ek, &[7; 34], &[1; 32], &[2; 32]).expect("made");
        let two = make(&ek, &[8; 34], &[1; 32], &[2; 32]).expect("made");
        assert_ne!(one.blob, two.blob);
    }
}
