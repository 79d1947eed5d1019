//! The plaintext of a sealed bundle of secrets: a CBOR map from name to bytes. Values are wiped on drop and shown nowhere.

use std::collections::BTreeMap;
use std::fmt;

use ciborium::value::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::limits;

/// Secrets by name.
#[derive(Default)]
pub struct SecretBundle(pub BTreeMap<String, Zeroizing<Vec<u8>>>);

/// Why a bundle cannot be read. The Verifier that sent it is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// Not a CBOR map from text to bytes within the limits.
    #[error("the Verifier's bundle of secrets is not well formed")]
    Malformed,
}

impl SecretBundle {
    /// The CBOR that is sealed.
    pub fn to_cbor(&self) -> Zeroizing<Vec<u8>> {
        let capacity = self
            .0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 16)
            .sum::<usize>()
            + 16;
        // Reserved at once: a growing buffer would leave copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(capacity));
        let mut map: Vec<(Value, Value)> = self
            .0
            .iter()
            .map(|(name, value)| (Value::Text(name.clone()), Value::Bytes(value.to_vec())))
            .collect();
        let value = Value::Map(std::mem::take(&mut map));
        ciborium::into_writer(&value, &mut *out).expect("a Vec takes every byte");
        wipe(value);
        out
    }

    /// Reads a bundle.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, BundleError> {
        let Ok(Value::Map(entries)) = ciborium::from_reader(bytes) else {
            return Err(BundleError::Malformed);
        };
        if entries.len() > limits::SECRET_NAMES {
            wipe(Value::Map(entries));
            return Err(BundleError::Malformed);
        }
        let mut bundle = Self::default();
        for entry in entries {
            let (Value::Text(name), Value::Bytes(value)) = entry else {
                return Err(BundleError::Malformed);
            };
            bundle.0.insert(name, Zeroizing::new(value));
        }
        Ok(bundle)
    }
}

fn wipe(value: Value) {
    if let Value::Map(entries) = value {
        for (_, value) in entries {
            if let Value::Bytes(mut bytes) = value {
                bytes.zeroize();
            }
        }
    }
}

impl fmt::Debug for SecretBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_survives_the_way_there_and_back_and_shows_only_names() {
        let mut bundle = SecretBundle::default();
        bundle.0.insert("kv/web#key".into(), Zeroizing::new(vec![0, 255, 7]));
        let cbor = bundle.to_cbor();
        let back = SecretBundle::from_cbor(&cbor).expect("reads");
        assert_eq!(back.0["kv/web#key"].as_slice(), [0, 255, 7]);
        assert_eq!(format!("{back:?}"), "{\"kv/web#key\"}");
    }

    #[test]
    fn what_is_no_map_of_bytes_is_refused() {
        assert_eq!(SecretBundle::from_cbor(&[0x80]).err(), Some(BundleError::Malformed));
        assert_eq!(
            SecretBundle::from_cbor(&[0xa1, 0x61, b'a', 0x61, b'b']).err(),
            Some(BundleError::Malformed)
        );
    }
}
