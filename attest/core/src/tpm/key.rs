//! A public signing key in the form that X.509 has (subjectPublicKey, RFC 3279 and RFC 5480): what an AK certificate carries and
//! signatures are verified with. Only the kinds below exist; anything else does not parse.

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::bytes::{Fixed, sha256};

const RSA_ENCRYPTION: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC_PUBLIC_KEY: Oid<'static> = oid!(1.2.840.10045.2.1);
const PRIME256V1: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const SECP384R1: Oid<'static> = oid!(1.3.132.0.34);

/// Kinds of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// ECC over NIST P-256.
    P256,
    /// ECC over NIST P-384.
    P384,
}

impl KeyKind {
    /// Bytes of a modulus or of a coordinate.
    #[expect(clippy::len_without_is_empty, reason = "a size, not a container's length")]
    pub fn len(self) -> usize {
        match self {
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// Whether it is an elliptic curve.
    pub fn is_ecc(self) -> bool {
        matches!(self, Self::P256 | Self::P384)
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::P256 => "ECC P-256",
            Self::P384 => "ECC P-384",
        })
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    bits: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind, hex::encode(&self.bits))
    }
}

impl PublicKey {
    /// An RSA key; `None` when the modulus has another length than 2048 or 3072 bits, or the exponent is no odd number above 2.
    pub fn rsa(modulus: &[u8], exponent: u32) -> Option<Self> {
        let kind = match (modulus.len(), modulus.first()?) {
            (256, 0x80..) => KeyKind::Rsa2048,
            (384, 0x80..) => KeyKind::Rsa3072,
            _ => return None,
        };
        if exponent < 3 || exponent.is_multiple_of(2) {
            return None;
        }
        let integers = [unsigned(modulus), unsigned(&exponent.to_be_bytes())].concat();
        Some(Self {
            kind,
            bits: tlv(0x30, &integers),
        })
    }

    /// A point given by its coordinates, each of the curve's length; `None` when they are not.
    pub fn ecc(kind: KeyKind, x: &[u8], y: &[u8]) -> Option<Self> {
        (kind.is_ecc() && x.len() == kind.len() && y.len() == kind.len()).then(|| Self {
            kind,
            bits: [&[4], x, y].concat(),
        })
    }

    /// The key of a certificate; `None` when it is of a kind that is not known here.
    pub fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let bits = spki.subject_public_key.data.as_ref();
        let curve = || spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        if spki.algorithm.algorithm == RSA_ENCRYPTION {
            let x509_parser::public_key::PublicKey::RSA(key) = spki.parsed().ok()? else {
                return None;
            };
            let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
            return Self::rsa(modulus, u32::try_from(key.try_exponent().ok()?).ok()?).filter(|key| key.bits == bits);
        }
        if spki.algorithm.algorithm != EC_PUBLIC_KEY {
            return None;
        }
        let kind = match curve()? {
            oid if oid == PRIME256V1 => KeyKind::P256,
            oid if oid == SECP384R1 => KeyKind::P384,
            _ => return None,
        };
        let (x, y) = bits.strip_prefix(&[4])?.split_at_checked(kind.len())?;
        Self::ecc(kind, x, y)
    }

    /// The key in a DER SubjectPublicKeyInfo that fills the buffer.
    pub fn from_spki_der(der: &[u8]) -> Option<Self> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], spki)) => Self::from_spki(&spki),
            _ => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The bits of X.509's subjectPublicKey: an RSAPublicKey, or an uncompressed SEC1 point.
    pub fn subject_public_key(&self) -> &[u8] {
        &self.bits
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        let null = [5, 0];
        let (algorithm, parameters) = match self.kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => (&RSA_ENCRYPTION, null.to_vec()),
            KeyKind::P256 => (&EC_PUBLIC_KEY, tlv(6, PRIME256V1.as_bytes())),
            KeyKind::P384 => (&EC_PUBLIC_KEY, tlv(6, SECP384R1.as_bytes())),
        };
        let identifier = tlv(0x30, &[tlv(6, algorithm.as_bytes()), parameters].concat());
        let bit_string = tlv(3, &[&[0], self.bits.as_slice()].concat());
        tlv(0x30, &[identifier, bit_string].concat())
    }

    /// SHA-256 of [`Self::spki`]: how the binding names it.
    pub fn id(&self) -> Fixed<32> {
        sha256(&self.spki())
    }
}

/// DER INTEGER of an unsigned number.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|b| *b != 0).unwrap_or(number.len());
    let significant = &number[start..];
    match significant.first() {
        Some(first) if *first < 0x80 => tlv(2, significant),
        _ => tlv(2, &[&[0], significant].concat()),
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len())
        .expect("keys are far below 64 KiB")
        .to_be_bytes();
    let head: &[u8] = match length {
        [0, low @ 0..=0x7f] => &[tag, low],
        [0, low] => &[tag, 0x81, low],
        [high, low] => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(key: &PublicKey) {
        assert_eq!(PublicKey::from_spki_der(&key.spki()).as_ref(), Some(key));
    }

    #[test]
    fn every_kind_survives_the_way_to_x509_and_back() {
        let modulus = |len: usize| [vec![0x80], vec![7; len - 1]].concat();
        round_trip(&PublicKey::rsa(&modulus(256), 65537).expect("key"));
        round_trip(&PublicKey::rsa(&modulus(384), 3).expect("key"));
        round_trip(&PublicKey::ecc(KeyKind::P256, &[1; 32], &[0; 32]).expect("key"));
        round_trip(&PublicKey::ecc(KeyKind::P384, &[1; 48], &[0xff; 48]).expect("key"));
    }

    #[test]
    fn other_lengths_and_exponents_are_no_keys() {
        assert_eq!(PublicKey::rsa(&[0x80; 128], 65537), None);
        assert_eq!(PublicKey::rsa(&[0x7f; 256], 65537), None, "2047 bits");
        assert_eq!(PublicKey::rsa(&[0x80; 256], 1), None);
        assert_eq!(PublicKey::rsa(&[0x80; 256], 65536), None);
        assert_eq!(PublicKey::ecc(KeyKind::P256, &[1; 31], &[1; 32]), None);
        assert_eq!(PublicKey::ecc(KeyKind::Rsa2048, &[1; 256], &[1; 256]), None);
    }
}
