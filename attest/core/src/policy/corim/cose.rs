//! A signed CoRIM: COSE_Sign1 (RFC 9052) over the unsigned one, verified by a key that the operator names. The algorithm follows from
//! the key, never from the message.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use ciborium::Value;
use coset::iana::Algorithm;
use coset::{ContentType, CoseSign1, Label, RegisteredLabelWithPrivate, TaggedCborSerializable};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::strict::{Map, bytes, document, shape};
use super::{CONTENT_TYPE, CorimError, import};
use crate::limits;
use crate::policy::instant::Instant;

/// First byte of tag 18, `signed-corim`.
const SIGN1: u8 = 0xd2;
/// corim-meta in the protected header.
const META: i64 = 8;
/// CWT claims in the protected header (RFC 9597); `exp` and `nbf` in them (RFC 8392).
const CWT_CLAIMS: i64 = 15;
const EXP: i128 = 4;
const NBF: i128 = 5;

/// SubjectPublicKeyInfo of the keys that COSE signs with here (RFC 5480, RFC 8410): the bytes before the key proper.
const KINDS: [(&[u8], Algorithm, &dyn VerificationAlgorithm); 3] = [
    (
        &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ],
        Algorithm::ES256,
        &ECDSA_P256_SHA256_FIXED,
    ),
    (
        &[
            0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
            0x00, 0x22, 0x03, 0x62, 0x00,
        ],
        Algorithm::ES384,
        &ECDSA_P384_SHA384_FIXED,
    ),
    (
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
        Algorithm::EdDSA,
        &ED25519,
    ),
];

/// The public key of whoever signs CoRIMs.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    verifies_by: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.algorithm)
    }
}

impl SigningKey {
    /// Reads a PEM `PUBLIC KEY`: P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).map_err(|_| "it is not PEM")?;
        if pem.label != "PUBLIC KEY" || pem.contents.len() > limits::CERTIFICATE {
            return Err("it is not a PEM block PUBLIC KEY");
        }
        let (rest, _) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| "it is not a public key")?;
        let kind = KINDS
            .into_iter()
            .find(|(prefix, _, _)| rest.is_empty() && pem.contents.starts_with(prefix));
        let (prefix, algorithm, verifies_by) = kind.ok_or("it is not a P-256, P-384 or Ed25519 key")?;
        Ok(Self {
            algorithm,
            verifies_by,
            key: pem.contents[prefix.len()..].to_vec(),
        })
    }
}

/// Whether a CoRIM claims to be signed.
pub(super) fn is_signed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&SIGN1)
}

/// The unsigned CoRIM in a signed one, once everything about the signature was checked.
pub(super) fn verified_payload(signed: &[u8], key: &SigningKey, now: Instant) -> Result<Vec<u8>, CorimError> {
    let sign1 = CoseSign1::from_tagged_slice(signed).map_err(|_| CorimError::Signature("it is not COSE_Sign1"))?;
    algorithm_is_the_keys(&sign1, key)?;
    nothing_critical_is_unknown(&sign1)?;
    content_is_a_corim(&sign1)?;
    let verify = |signature: &[u8], data: &[u8]| {
        UnparsedPublicKey::new(key.verifies_by, &key.key)
            .verify(data, signature)
            .map_err(|_| CorimError::Signature("it is not by the given key over this content"))
    };
    let payload = sign1
        .payload
        .as_ref()
        .ok_or(CorimError::Signature("the content is not in it"))?;
    sign1.verify_signature(b"", verify)?;
    signature_is_valid_at(&sign1, now)?;
    Ok(payload.clone())
}

fn algorithm_is_the_keys(sign1: &CoseSign1, key: &SigningKey) -> Result<(), CorimError> {
    let named = RegisteredLabelWithPrivate::Assigned(key.algorithm);
    if sign1.protected.header.alg == Some(named) {
        Ok(())
    } else {
        Err(CorimError::Signature(
            "its protected header names another algorithm than the key's",
        ))
    }
}

fn nothing_critical_is_unknown(sign1: &CoseSign1) -> Result<(), CorimError> {
    if sign1.protected.header.crit.is_empty() && sign1.unprotected.crit.is_empty() {
        Ok(())
    } else {
        Err(CorimError::Signature("it has critical headers, and none is understood"))
    }
}

fn content_is_a_corim(sign1: &CoseSign1) -> Result<(), CorimError> {
    if sign1.protected.header.content_type == Some(ContentType::Text(CONTENT_TYPE.into())) {
        Ok(())
    } else {
        Err(CorimError::Signature(
            "its protected content type is not application/rim+cbor",
        ))
    }
}

/// The signer's own window: corim-meta's signature validity, or `exp` and `nbf` of CWT claims.
fn signature_is_valid_at(sign1: &CoseSign1, now: Instant) -> Result<(), CorimError> {
    for (label, value) in &sign1.protected.header.rest {
        let (from, until) = match label {
            Label::Int(META) => meta_validity(value, now)?,
            Label::Int(CWT_CLAIMS) => claims_validity(value)?,
            _ => continue,
        };
        if let Some(from) = from.filter(|from| *from > now) {
            return Err(CorimError::Early { from, now });
        }
        if let Some(until) = until.filter(|until| *until < now) {
            let what = "signature";
            return Err(CorimError::Expired { what, until, now });
        }
    }
    Ok(())
}

/// corim-meta-map: { signer, ? signature-validity }.
fn meta_validity(value: &Value, now: Instant) -> Result<(Option<Instant>, Option<Instant>), CorimError> {
    let encoded = bytes(value.clone(), "corim-meta")?;
    let mut meta = Map::new(document(&encoded, "corim-meta")?, "corim-meta")?;
    let _signer = meta.demand(0, "a map with a signer")?;
    let validity = meta.take(1);
    meta.end()?;
    match validity {
        Some(validity) => import::validity_map(validity, "signature", now),
        None => Ok((None, None)),
    }
}

fn claims_validity(value: &Value) -> Result<(Option<Instant>, Option<Instant>), CorimError> {
    let mut claims = Map::new(value.clone(), "CWT claims")?;
    let mut seconds = |key| {
        let value = claims.take(key);
        value
            .map(|value| {
                let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
                number
                    .map(Instant)
                    .ok_or_else(|| shape("CWT claims", "a map with whole seconds"))
            })
            .transpose()
    };
    Ok((seconds(NBF)?, seconds(EXP)?))
}
