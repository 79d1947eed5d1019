//! What the Verifier granted: the Attestation Result (EAR, a JWT) and the key that it was sealed to.
//!
//! Its signature is not checked here: it came over the pinned connection, sealed to a key made for this round, and
//! those who rely on it (vault, store) check it themselves. The agent reads only what it must know to use it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rempart_attest::hpke::{EphemeralKey, HpkeError};
use rempart_secret::SecretString;
use serde::Deserialize;
use std::time::Duration;
use zeroize::Zeroizing;

use crate::{BackendError, Identity};

/// Longest result, in bytes: a dozen claims and some roles.
const MAX_RESULT: usize = 16 * 1024;
/// Longest life believed: a result is meant for minutes.
const MAX_LIFE: u64 = 3600;

/// What the Verifier sent is not a usable result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not a JWT with the claims it must have.
    #[error("verifier sent no well-formed attestation result: {0}; bring node and Verifier to the same release")]
    VerifierMalformed(&'static str),
    /// Issued to someone else.
    #[error(
        "verifier sent an attestation result for node {0:?}, which is not this node; check that the Verifier is the owner's"
    )]
    VerifierOtherNode(String),
}

/// A granted result.
pub struct Grant {
    /// The JWT: a bearer token for the vault.
    pub ear: SecretString,
    /// Its id.
    pub jti: String,
    /// Roles that the node may use.
    pub roles: Vec<String>,
    /// How long it is good for, from its making.
    pub life: Duration,
    /// Opens what is sealed to its `cnf` key.
    pub key: EphemeralKey,
    /// The client certificate that came with it, when the Evidence held a certified TLS key.
    pub identity: Option<Identity>,
    /// What it says, for people.
    pub words: Words,
}

/// What a result says of itself, for status; nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Unix seconds of its making, by the Verifier's clock.
    pub issued: u64,
    /// Name of the policy.
    pub policy: Option<String>,
    /// Counter of the policy.
    pub policy_counter: Option<u64>,
    /// SHA-256 of the policy, hex; what [`rempart_attest::api::WATCH`] compares.
    pub policy_digest: Option<String>,
    /// How sure the Verifier is of the TPM's identity.
    pub identity: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    policy_digest: Option<String>,
    #[serde(default, rename = "rempart.policy-counter")]
    policy_counter: Option<u64>,
    #[serde(default, rename = "rempart.identity")]
    identity: Option<String>,
    #[serde(default)]
    submods: Option<Submods>,
}

#[derive(Deserialize)]
struct Submods {
    machine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    #[serde(rename = "ear.appraisal-policy-id")]
    policy: String,
}

impl Grant {
    /// Takes the JWT that was sealed to `key` for the node `node`.
    pub fn read(jwt: Zeroizing<Vec<u8>>, key: EphemeralKey, node: &str) -> Result<Self, GrantError> {
        let malformed = GrantError::VerifierMalformed;
        if jwt.len() > MAX_RESULT {
            return Err(malformed("it is too long"));
        }
        let text = std::str::from_utf8(&jwt).map_err(|_| malformed("it is not text"))?;
        let mut parts = text.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("it has not three parts"));
        };
        let payload = BASE64_URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| malformed("its claims are not base64url"))?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| malformed("its claims are incomplete"))?;
        if claims.sub != node {
            return Err(GrantError::VerifierOtherNode(claims.sub));
        }
        let life = claims
            .exp
            .checked_sub(claims.iat)
            .filter(|life| (1..=MAX_LIFE).contains(life));
        let life = life.ok_or(malformed("its life is not between one second and one hour"))?;
        Ok(Self {
            ear: SecretString::new(text.to_owned()),
            jti: claims.jti,
            roles: claims.roles,
            life: Duration::from_secs(life),
            key,
            identity: None,
            words: Words {
                issued: claims.iat,
                policy: claims.submods.map(|submods| submods.machine.policy),
                policy_counter: claims.policy_counter,
                policy_digest: claims.policy_digest,
                identity: claims.identity,
            },
        })
    }
}

impl Grant {
    /// Of no Verifier: what a node without one gives itself when its TPM has judged. No server takes it for anything.
    pub fn local(roles: Vec<String>) -> Result<Self, HpkeError> {
        Ok(Self {
            ear: SecretString::new(String::new()),
            jti: String::new(),
            roles,
            life: Duration::from_secs(MAX_LIFE),
            key: EphemeralKey::generate()?,
            identity: None,
            words: Words::default(),
        })
    }

    /// That the result grants `role`.
    pub(crate) fn demand(&self, role: &str) -> Result<(), BackendError> {
        if self.roles.iter().any(|granted| granted == role) {
            return Ok(());
        }
        let granted = if self.roles.is_empty() {
            "none".to_owned()
        } else {
            self.roles.join(", ")
        };
        Err(BackendError::RoleNotGranted {
            role: role.to_owned(),
            granted,
        })
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grant({}, roles {:?})", self.jti, self.roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Result<Grant, GrantError> {
        let jwt = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        Grant::read(
            jwt.into_bytes().into(),
            EphemeralKey::generate().expect("randomness"),
            "demo-1",
        )
    }

    #[test]
    fn a_result_gives_its_roles_and_its_life() {
        let grant = read(r#"{"sub":"demo-1","iat":100,"exp":220,"jti":"j","roles":["web"]}"#).expect("whole");
        assert_eq!(
            (grant.life, grant.roles.as_slice()),
            (Duration::from_secs(120), &["web".to_owned()][..])
        );
    }

    #[test]
    fn another_nodes_result_and_an_endless_one_are_refused() {
        assert!(matches!(
            read(r#"{"sub":"x","iat":1,"exp":2,"jti":"j"}"#),
            Err(GrantError::VerifierOtherNode(_))
        ));
        for claims in [
            r#"{"sub":"demo-1","iat":1,"exp":999999,"jti":"j"}"#,
            r#"{"sub":"demo-1","iat":5,"exp":1,"jti":"j"}"#,
            r#"{"sub":"demo-1","iat":1,"jti":"j"}"#,
            "",
        ] {
            assert!(
                matches!(read(claims), Err(GrantError::VerifierMalformed(_))),
                "{claims}"
            );
        }
    }
}
