//! TPM2_MakeCredential in software (Part 1, 24 and annexes B.10.4 and C.6.4; Part 3, 12.6): only a TPM that holds both the EK and an
//! object with exactly this Name gives the secret back. The seed travels by OAEP to an RSA EK, by one-pass ECDH to an ECC one.

use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, Algorithm, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use zeroize::Zeroizing;

use super::public::EkPublic;
use super::public::area::AreaKey;
use super::wire::put_sized;
use super::{Hash, KeyKind, Name};
use crate::bytes::Blob;

/// Label of the seed; the terminating zero belongs to it.
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
    /// The numbers in the EK are no key.
    #[error("the node's EK is not a usable key")]
    Key,
    /// The provider failed.
    #[error("the cryptographic provider failed while making a credential")]
    Provider,
}

/// Makes a credential for `secret` that the TPM with `ek` and the object named `ak` can activate.
pub fn make(ek: &EkPublic, ak: &Name, secret: &[u8; 32]) -> Result<Credential, CredentialError> {
    let (seed, encrypted_seed) = seed(ek)?;
    let hash = ek.name_alg;
    let key = kdfa(hash, &seed, b"STORAGE", ak.as_ref(), usize::from(ek.aes_bits))?;
    let identity = encrypt_identity(&key, secret)?;
    let key = kdfa(hash, &seed, b"INTEGRITY", &[], hash.len() * 8)?;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hash.hmac(), &key));
    mac.update(&identity);
    mac.update(ak.as_ref());

    let mut id_object = Vec::new();
    put_sized(&mut id_object, mac.sign().as_ref());
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

type Seed = Zeroizing<Vec<u8>>;

/// A fresh seed and what only the EK's holder can read it from.
fn seed(ek: &EkPublic) -> Result<(Seed, Vec<u8>), CredentialError> {
    match &ek.key {
        AreaKey::Rsa { modulus, exponent } => {
            let mut seed = Zeroizing::new(vec![0; ek.name_alg.len()]);
            SystemRandom::new()
                .fill(&mut seed)
                .map_err(|_| CredentialError::Provider)?;
            let encrypted = encrypt_seed(ek.name_alg, modulus, *exponent, &seed)?;
            Ok((seed, encrypted))
        }
        AreaKey::Ecc { x, .. } => agree_seed(ek, x),
    }
}

/// B.10.4: OAEP with the EK's name algorithm.
fn encrypt_seed(hash: Hash, modulus: &[u8], exponent: u32, seed: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let exponent = exponent.to_be_bytes();
    let significant = exponent.iter().position(|b| *b != 0).ok_or(CredentialError::Key)?;
    let components = PublicKeyComponents {
        n: modulus,
        e: &exponent[significant..],
    };
    let key: PublicEncryptingKey = components.try_into().map_err(|_| CredentialError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| CredentialError::Key)?;
    let algorithm = match hash {
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
    };
    let mut out = vec![0; key.ciphertext_size()];
    let written = key
        .encrypt(algorithm, seed, &mut out, Some(LABEL))
        .map_err(|_| CredentialError::Provider)?
        .len();
    out.truncate(written);
    Ok(out)
}

/// C.6.4: an ephemeral key agrees with the EK, and the seed comes from the shared x coordinate by KDFe. A point that is not on the
/// curve is refused by the provider.
fn agree_seed(ek: &EkPublic, ek_x: &[u8]) -> Result<(Seed, Vec<u8>), CredentialError> {
    let curve = match ek.kind() {
        KeyKind::P256 => &agreement::ECDH_P256,
        KeyKind::P384 => &agreement::ECDH_P384,
        KeyKind::Rsa2048 | KeyKind::Rsa3072 => return Err(CredentialError::Key),
    };
    let ephemeral =
        EphemeralPrivateKey::generate(curve, &SystemRandom::new()).map_err(|_| CredentialError::Provider)?;
    let public = ephemeral.compute_public_key().map_err(|_| CredentialError::Provider)?;
    let (x, y) = public.as_ref()[1..].split_at(ek.kind().len());
    let peer = UnparsedPublicKey::new(curve, ek.public().subject_public_key());
    let seed = agreement::agree_ephemeral(ephemeral, peer, CredentialError::Key, |z| {
        Ok(kdfe(ek.name_alg, z, LABEL, x, ek_x))
    })?;
    let mut point = Vec::new();
    put_sized(&mut point, x);
    put_sized(&mut point, y);
    Ok((seed, point))
}

/// AES-CFB with a zero vector, as Part 1 24.4 says: the key is used once.
fn encrypt_identity(key: &[u8], secret: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let algorithm: &'static Algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let mut identity = Vec::new();
    put_sized(&mut identity, secret);
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| CredentialError::Provider)?;
    let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    EncryptingKey::cfb128(key)
        .and_then(|key| key.less_safe_encrypt(&mut identity, context))
        .map_err(|_| CredentialError::Provider)?;
    Ok(identity)
}

/// KDFa of Part 1, 11.4.10.2 with an empty second context; never more than one block is wanted.
fn kdfa(hash: Hash, key: &[u8], label: &[u8], context: &[u8], bits: usize) -> Result<Seed, CredentialError> {
    let mut input = hmac::Context::with_key(&hmac::Key::new(hash.hmac(), key));
    input.update(&1u32.to_be_bytes());
    input.update(label);
    input.update(&[0]);
    input.update(context);
    input.update(
        &u32::try_from(bits)
            .map_err(|_| CredentialError::Provider)?
            .to_be_bytes(),
    );
    let block = input.sign();
    let block = block.as_ref().get(..bits / 8).ok_or(CredentialError::Provider)?;
    Ok(Zeroizing::new(block.to_vec()))
}

/// KDFe of Part 1, 11.4.10.3 for as many bits as the hash has; `label` carries its terminating zero.
fn kdfe(hash: Hash, z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Seed {
    let block = hash.digest(&[&1u32.to_be_bytes(), z, label, party_u, party_v]);
    Zeroizing::new(block.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::PrivateKey;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::super::public::ek::{default_ek_template, ecc_ek_template};
    use super::*;

    fn name(byte: u8) -> Name {
        Name::of(Hash::Sha256, &[byte])
    }

    fn rsa() -> (PrivateDecryptingKey, EkPublic) {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("key");
        let der = private.public_key().as_der().expect("der").as_ref().to_vec();
        // The modulus of an RSA-2048 key in a SubjectPublicKeyInfo: 256 bytes before the exponent's five.
        let modulus = &der[der.len() - 5 - 256..der.len() - 5];
        let ek = EkPublic::parse(&default_ek_template(modulus)).expect("template");
        (private, ek)
    }

    #[test]
    fn the_holder_of_an_rsa_ek_recovers_the_seed_and_the_sizes_are_the_tpms() {
        let (private, ek) = rsa();
        let credential = make(&ek, &name(7), &[1; 32]).expect("made");
        assert_eq!(credential.blob.0.len(), 2 + 2 + 32 + 2 + 32);
        assert_eq!(credential.encrypted_secret.0.len(), 2 + 256);
        let key = OaepPrivateDecryptingKey::new(private).expect("key");
        let mut out = vec![0; key.min_output_size()];
        let sealed = &credential.encrypted_secret.0[2..];
        let seed = key
            .decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut out, Some(LABEL))
            .expect("opens");
        assert_eq!(seed.len(), 32);
    }

    /// The TPM's side of C.6.4: the integrity of the blob shows that both ends came to the same seed.
    #[test]
    fn the_holder_of_an_ecc_ek_comes_to_the_same_seed() {
        for (kind, curve) in [
            (KeyKind::P256, &agreement::ECDH_P256),
            (KeyKind::P384, &agreement::ECDH_P384),
        ] {
            let private = PrivateKey::generate(curve).expect("key");
            let public = private.compute_public_key().expect("key");
            let (x, y) = public.as_ref()[1..].split_at(kind.len());
            let ek = EkPublic::parse(&ecc_ek_template(x, y)).expect("template");
            let credential = make(&ek, &name(7), &[1; 32]).expect("made");

            let point = &credential.encrypted_secret.0[2..];
            assert_eq!(point.len(), 2 * (2 + kind.len()));
            let (ephemeral_x, ephemeral_y) = (&point[2..2 + kind.len()], &point[4 + kind.len()..]);
            let peer = UnparsedPublicKey::new(curve, [&[4], ephemeral_x, ephemeral_y].concat());
            let seed = agreement::agree(&private, peer, (), |z| Ok(kdfe(ek.name_alg, z, LABEL, ephemeral_x, x)));
            let key = kdfa(
                ek.name_alg,
                &seed.expect("agrees"),
                b"INTEGRITY",
                &[],
                ek.name_alg.len() * 8,
            )
            .expect("key");
            let id_object = &credential.blob.0[2..];
            let (mac, identity) = id_object[2..].split_at(ek.name_alg.len());
            let key = hmac::Key::new(ek.name_alg.hmac(), &key);
            hmac::verify(&key, &[identity, name(7).as_ref()].concat(), mac).expect("both ends have one seed");
        }
    }

    #[test]
    fn a_point_that_is_not_on_the_curve_gets_no_credential() {
        let ek = EkPublic::parse(&ecc_ek_template(&[1; 32], &[2; 32])).expect("template");
        assert_eq!(make(&ek, &name(7), &[1; 32]), Err(CredentialError::Key));
    }

    #[test]
    fn no_two_credentials_are_alike() {
        let (_, ek) = rsa();
        let one = make(&ek, &name(7), &[1; 32]).expect("made");
        assert_ne!(one.blob, make(&ek, &name(7), &[1; 32]).expect("made").blob);
    }
}
