//! The Verifier's challenge: CBOR {t, r, aud, life} followed by an HMAC-SHA256, so that the Verifier keeps no session and any replica
//! that has the key can judge it. It proves when and for whom it was made; it must never carry anything about a node.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bytes::{Blob, Fixed};
use crate::limits;

/// How long a challenge may be answered, seconds: a quote takes up to ten on a slow TPM.
pub const LIFE: u64 = 120;
/// How far in the future a challenge may lie, seconds: replicas' clocks differ a little.
const SKEW: u64 = 5;
const MAC_LEN: usize = 32;

/// A challenge as it travels: opaque to the node. base64url in JSON, bytes in CBOR.
#[derive(Clone, PartialEq, Eq)]
pub struct ChallengeToken(Vec<u8>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    t: u64,
    r: Fixed<16>,
    aud: String,
    life: u64,
}

/// Why a challenge is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChallengeError {
    /// Not made with this key, or changed on the way.
    #[error("the challenge was not made by this Verifier")]
    Foreign,
    /// Older than its life.
    #[error("the challenge is {age} s old and was good for {life} s")]
    Stale {
        /// Seconds since it was made.
        age: u64,
        /// Seconds it was good for.
        life: u64,
    },
    /// From the future.
    #[error("the challenge was made {ahead} s in the future: the Verifier's clocks disagree")]
    Future {
        /// Seconds.
        ahead: u64,
    },
    /// Made for another Verifier.
    #[error("the challenge was made for {found}, this Verifier is {expected}")]
    Audience {
        /// Who we are.
        expected: String,
        /// Whom it was made for.
        found: String,
    },
}

impl ChallengeToken {
    /// Makes a challenge at `now` (Unix seconds) for the Verifier `audience`.
    pub fn issue(key: &hmac::Key, now: u64, random: [u8; 16], audience: &str) -> Self {
        let mut bytes = Vec::new();
        let body = Body {
            t: now,
            r: Fixed(random),
            aud: audience.into(),
            life: LIFE,
        };
        ciborium::into_writer(&body, &mut bytes).expect("a Vec takes every byte");
        let mac = hmac::sign(key, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        Self(bytes)
    }

    /// Judges MAC, audience and age at `now`.
    pub fn verify(&self, key: &hmac::Key, now: u64, audience: &str) -> Result<(), ChallengeError> {
        let split = self.0.len().checked_sub(MAC_LEN).ok_or(ChallengeError::Foreign)?;
        let (body, mac) = self.0.split_at(split);
        hmac::verify(key, body, mac).map_err(|_| ChallengeError::Foreign)?;
        let body: Body = ciborium::from_reader(body).map_err(|_| ChallengeError::Foreign)?;
        if body.aud != audience {
            return Err(ChallengeError::Audience {
                expected: audience.into(),
                found: body.aud,
            });
        }
        if body.t > now + SKEW {
            return Err(ChallengeError::Future { ahead: body.t - now });
        }
        let age = now.saturating_sub(body.t);
        if age > body.life {
            Err(ChallengeError::Stale { age, life: body.life })
        } else {
            Ok(())
        }
    }

    /// A token from bytes that a peer sent; nothing is judged yet.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes that the binding and the HPKE associated data take.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ChallengeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeToken({} bytes)", self.0.len())
    }
}

impl Serialize for ChallengeToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(&self.0))
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ChallengeToken {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = if from.is_human_readable() {
            let text = String::deserialize(from)?;
            BASE64_URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| de::Error::custom("not base64url"))?
        } else {
            Blob::deserialize(from)?.0
        };
        if bytes.len() > limits::CHALLENGE {
            return Err(de::Error::custom("challenge too long"));
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn token() -> ChallengeToken {
        ChallengeToken::issue(&key(1), NOW, [9; 16], "https://v")
    }

    #[test]
    fn its_own_verifier_accepts_it_within_its_life() {
        assert_eq!(token().verify(&key(1), NOW, "https://v"), Ok(()));
        assert_eq!(token().verify(&key(1), NOW + LIFE, "https://v"), Ok(()));
    }

    #[test]
    fn a_stale_one_is_refused() {
        let refused = token().verify(&key(1), NOW + LIFE + 1, "https://v");
        assert_eq!(
            refused,
            Err(ChallengeError::Stale {
                age: LIFE + 1,
                life: LIFE
            })
        );
    }

    #[test]
    fn one_from_the_future_is_refused() {
        assert_eq!(
            token().verify(&key(1), NOW - 60, "https://v"),
            Err(ChallengeError::Future { ahead: 60 })
        );
    }

    #[test]
    fn one_made_with_another_key_is_foreign() {
        assert_eq!(token().verify(&key(2), NOW, "https://v"), Err(ChallengeError::Foreign));
    }

    #[test]
    fn one_made_for_another_verifier_is_refused() {
        assert!(matches!(
            token().verify(&key(1), NOW, "https://w"),
            Err(ChallengeError::Audience { .. })
        ));
    }

    #[test]
    fn each_changed_byte_makes_it_foreign() {
        for at in 0..token().as_bytes().len() {
            let mut bytes = token().as_bytes().to_vec();
            bytes[at] ^= 1;
            assert_eq!(
                ChallengeToken::from_bytes(bytes).verify(&key(1), NOW, "https://v"),
                Err(ChallengeError::Foreign)
            );
        }
        assert_eq!(
            ChallengeToken::from_bytes(vec![]).verify(&key(1), NOW, "https://v"),
            Err(ChallengeError::Foreign)
        );
    }
}
