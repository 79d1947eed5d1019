//! Byte strings that serialise as text where people read (JSON) and as bytes where machines do (CBOR).
//! They never hold a secret: their Debug shows the content.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A byte string of any length; base64 (RFC 4648 section 4) in JSON.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&BASE64_STANDARD.encode(&self.0))
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = String::deserialize(from)?;
            BASE64_STANDARD
                .decode(text)
                .map(Self)
                .map_err(|_| de::Error::custom("not base64"))
        } else {
            from.deserialize_byte_buf(BytesVisitor).map(Self)
        }
    }
}

/// A byte string of exactly `N` bytes; hex in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed<const N: usize>(pub [u8; N]);

impl<const N: usize> Fixed<N> {
    /// All zeros.
    pub const ZERO: Self = Self([0; N]);

    /// Reads exactly `2 * N` hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut out = [0; N];
        hex::decode_to_slice(text, &mut out).ok()?;
        Some(Self(out))
    }
}

impl<const N: usize> fmt::Display for Fixed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Fixed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<[u8; N]> for Fixed<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> TryFrom<&[u8]> for Fixed<N> {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl<const N: usize> AsRef<[u8]> for Fixed<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&hex::encode(self.0))
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = String::deserialize(from)?;
            Self::from_hex(&text).ok_or_else(|| de::Error::custom(format_args!("not {N} bytes of hex")))
        } else {
            let bytes = from.deserialize_byte_buf(BytesVisitor)?;
            Self::try_from(bytes.as_slice())
                .map_err(|_| de::Error::invalid_length(bytes.len(), &"a byte string of fixed length"))
        }
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Fixed<32> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Fixed::try_from(digest.as_ref()).expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_json_and_bytes_in_cbor() {
        let value = (Blob(vec![0xff, 0]), Fixed([1, 2]));
        let json = serde_json::to_string(&value).expect("json");
        assert_eq!(json, r#"["/wA=","0102"]"#);
        assert_eq!(serde_json::from_str::<(Blob, Fixed<2>)>(&json).expect("json"), value);
        let mut cbor = Vec::new();
        ciborium::into_writer(&value, &mut cbor).expect("cbor");
        assert_eq!(cbor, [0x82, 0x42, 0xff, 0, 0x42, 1, 2]);
        assert_eq!(
            ciborium::from_reader::<(Blob, Fixed<2>), _>(cbor.as_slice()).expect("cbor"),
            value
        );
    }

    #[test]
    fn a_wrong_length_is_refused() {
        assert!(serde_json::from_str::<Fixed<2>>("\"010203\"").is_err());
        assert!(ciborium::from_reader::<Fixed<2>, _>([0x43, 1, 2, 3].as_slice()).is_err());
    }
}
