//! The Attestation Result: EAR (draft-ietf-rats-ear) as a JWT with ES256. It is short-lived, names its audience, the key that it is
//! confirmed by (RFC 7800 `cnf`) and the digests of policy and Evidence. It is only ever delivered sealed to that key.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::appraise::Affirmed;
use crate::bytes::{Fixed, sha256};
use crate::pcr::Bank;
use crate::systemd_report::SystemdReport;
use crate::tee::{self, VerifiedTee};
use crate::verify::Verified;

/// Life of a result, seconds: long enough to log in at the vault, too short to be worth stealing.
pub const LIFE: u64 = 120;
/// Profile of the claims set (draft-ietf-rats-ear, 3).
pub const PROFILE: &str = "tag:github.com,2023:veraison/ear";
/// Clock difference between Verifier and relying party, seconds.
const SKEW: u64 = 5;

/// The claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ear {
    /// The Verifier's identifier.
    pub iss: String,
    /// The node.
    pub sub: String,
    /// Who may rely on it.
    pub aud: Vec<String>,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Not before.
    pub nbf: u64,
    /// Expires.
    pub exp: u64,
    /// Unique.
    pub jti: String,
    /// The attested key.
    pub cnf: Confirmation,
    /// [`PROFILE`].
    pub eat_profile: String,
    /// Who built the Verifier.
    #[serde(rename = "ear.verifier-id")]
    pub verifier_id: VerifierId,
    /// One appraisal.
    pub submods: Submods,
    /// What vouches for the TPM: `certified`, `listed`, `approved` or `first-use`.
    #[serde(rename = "rempart.identity")]
    pub identity: String,
    /// The image that the node booted, as the policy names it.
    #[serde(rename = "rempart.image")]
    pub image: String,
    /// The bank that was quoted.
    #[serde(rename = "rempart.bank")]
    pub bank: Bank,
    /// Counter of the policy.
    #[serde(rename = "rempart.policy-counter")]
    pub policy_counter: u64,
    /// SHA-256 of the SubjectPublicKeyInfo of the TLS key in the TPM, where one was certified. `cnf` names one key only (RFC 7800).
    #[serde(rename = "rempart.tls-key", default, skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<Fixed<32>>,
    /// The TEE whose report was verified too, where the policy judges one.
    #[serde(rename = "rempart.tee", default, skip_serializing_if = "Option::is_none")]
    pub tee: Option<tee::Summary>,
    /// systemd's report, where one was verified: what the TPM vouched for, and a few words of the measured software.
    #[serde(rename = "rempart.systemd-report", default, skip_serializing_if = "Option::is_none")]
    pub systemd_report: Option<SystemdReport>,
    /// What the node may have.
    #[serde(rename = "rempart.roles")]
    pub rempart_roles: Vec<String>,
    /// The same, where vaults look for it.
    pub roles: Vec<String>,
    /// SHA-256 of the policy file.
    pub policy_digest: Fixed<32>,
    /// SHA-256 of the Evidence.
    pub evidence_digest: Fixed<32>,
}

/// RFC 7800.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// RFC 8037 OKP key.
    pub jwk: OkpKey,
}

/// X25519 public key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OkpKey {
    /// `OKP`.
    pub kty: String,
    /// `X25519`.
    pub crv: String,
    /// base64url.
    pub x: String,
}

/// EAR 3.3.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierId {
    /// Who made it.
    pub developer: String,
    /// Which one.
    pub build: String,
}

/// What was appraised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submods {
    /// The machine's measured boot.
    pub machine: Machine,
}

/// One appraisal (EAR 3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `affirming`; there is no result otherwise.
    #[serde(rename = "ear.status")]
    pub status: String,
    /// AR4SI claims.
    #[serde(rename = "ear.trustworthiness-vector")]
    pub vector: TrustVector,
    /// Name of the policy.
    #[serde(rename = "ear.appraisal-policy-id")]
    pub policy: String,
}

/// draft-ietf-rats-ar4si, 2.3. A claim that is not made is absent (0 would say the same): without a TEE nothing is said about
/// hardware or memory encryption, and never anything about file systems, storage or data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrustVector {
    /// 2: a recognised instance, not known to be compromised.
    pub instance_identity: i8,
    /// 2: a known and approved configuration.
    pub configuration: i8,
    /// 3: only approved executables were loaded during boot. 2: and after it, by IMA's list.
    pub executables: i8,
    /// 2: genuine hardware and firmware, by a TEE's own certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<i8>,
    /// 2: memory is encrypted and out of the host's reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_opaque: Option<i8>,
}

/// Why a result does not count. Whoever presents it is to blame, except for `Sign`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EarError {
    /// The Verifier's key is unusable.
    #[error("the Verifier's signing key is not a P-256 key in PKCS#8")]
    Sign,
    /// Not a JWT by this Verifier for this audience.
    #[error("the attestation result is not one by this Verifier for this audience")]
    Invalid,
    /// Not yet or no longer valid.
    #[error("the attestation result was valid from {nbf} to {exp}, now is {now}: attest again")]
    NotNow {
        /// Not before.
        nbf: u64,
        /// Expires.
        exp: u64,
        /// Now.
        now: u64,
    },
    /// No usable key in it.
    #[error("the attestation result confirms no X25519 key")]
    Confirmation,
}

/// What a Verifier adds of its own.
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// Its identifier.
    pub issuer: &'a str,
    /// Who may rely on the result.
    pub audience: &'a [&'a str],
    /// Unix seconds.
    pub now: u64,
    /// Fresh random bytes.
    pub jti: [u8; 16],
    /// Its build.
    pub build: &'a str,
    /// What the node may have.
    pub roles: &'a [String],
    /// What vouches for the TPM.
    pub identity: &'a str,
    /// What the image's reference values judged beside the boot.
    pub judged: Judged,
    /// SHA-256 of the policy file.
    pub policy_digest: Fixed<32>,
    /// Its counter.
    pub policy_counter: u64,
}

/// What an image's reference values judge beside the boot. Evidence that nobody compared with anything makes no claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The TEE's report.
    pub tee: bool,
    /// What ran since the boot, by IMA's list.
    pub ima: bool,
}

/// Signs JWTs with ES256; the key is read once.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    kid: String,
}

impl Signer {
    /// With a P-256 key in PKCS#8, named `kid` in the JWK set.
    pub fn new(pkcs8: &[u8], kid: impl Into<String>) -> Self {
        Self {
            key: EncodingKey::from_ec_der(pkcs8),
            kid: kid.into(),
        }
    }

    /// Its name in the JWK set.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A compact JWS over `claims`.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, EarError> {
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| EarError::Sign)
    }
}

impl Ear {
    /// The result for a node that was affirmed.
    pub fn new(verified: &Verified, affirmed: &Affirmed, issue: &Issue<'_>) -> Self {
        Self {
            iss: issue.issuer.into(),
            sub: verified.node.clone(),
            aud: issue.audience.iter().map(|a| (*a).into()).collect(),
            iat: issue.now,
            nbf: issue.now.saturating_sub(SKEW),
            exp: issue.now + LIFE,
            jti: hex::encode(issue.jti),
            cnf: Confirmation {
                jwk: OkpKey::new(&verified.ephemeral),
            },
            eat_profile: PROFILE.into(),
            verifier_id: VerifierId {
                developer: "rempart".into(),
                build: issue.build.into(),
            },
            submods: Submods {
                machine: Machine {
                    status: "affirming".into(),
                    vector: TrustVector::of(verified, issue.judged),
                    policy: affirmed.policy.clone(),
                },
            },
            identity: issue.identity.into(),
            image: affirmed.image.clone(),
            bank: verified.pcrs.bank,
            policy_counter: issue.policy_counter,
            tls_key: verified.tls_key.as_ref().map(|tls| sha256(&tls.spki)),
            tee: verified.tee.as_ref().map(VerifiedTee::summary),
            systemd_report: verified.systemd_report.clone(),
            rempart_roles: issue.roles.to_vec(),
            roles: issue.roles.to_vec(),
            policy_digest: issue.policy_digest,
            evidence_digest: verified.evidence_digest,
        }
    }

    /// Verifies a JWT by the P-256 key with the uncompressed SEC1 `point`, its issuer, its audience and its time.
    pub fn verify(jwt: &str, point: &[u8], issuer: &str, audience: &str, now: u64) -> Result<Self, EarError> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // The time is judged below by the time that was given, because this crate reads no clock.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        let key = DecodingKey::from_ec_der(point);
        let ear = jsonwebtoken::decode::<Self>(jwt, &key, &rules)
            .map_err(|_| EarError::Invalid)?
            .claims;
        if now < ear.nbf || now >= ear.exp {
            return Err(EarError::NotNow {
                nbf: ear.nbf,
                exp: ear.exp,
                now,
            });
        }
        Ok(ear)
    }

    /// The key that the result is confirmed by.
    pub fn confirmed_key(&self) -> Result<Fixed<32>, EarError> {
        self.cnf.jwk.key().ok_or(EarError::Confirmation)
    }
}

impl TrustVector {
    fn of(verified: &Verified, judged: Judged) -> Self {
        // Hardware under a root of the Verifier's own is a test's: its memory may be as opaque as glass.
        let genuine = verified.tee.as_ref().is_some_and(|tee| !tee.summary().test_root);
        let claim = (judged.tee && genuine).then_some(2);
        Self {
            instance_identity: 2,
            configuration: 2,
            executables: if judged.ima { 2 } else { 3 },
            hardware: claim,
            runtime_opaque: claim,
        }
    }
}

impl OkpKey {
    fn new(key: &Fixed<32>) -> Self {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        Self {
            kty: "OKP".into(),
            crv: "X25519".into(),
            x: BASE64_URL_SAFE_NO_PAD.encode(key.0),
        }
    }

    fn key(&self) -> Option<Fixed<32>> {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&self.x).ok()?;
        Fixed::try_from(bytes.as_slice())
            .ok()
            .filter(|_| self.kty == "OKP" && self.crv == "X25519")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn ear() -> Ear {
        Ear {
            iss: "https://v".into(),
            sub: "demo-1".into(),
            aud: vec!["openbao".into(), "rempart-verifier".into()],
            iat: NOW,
            nbf: NOW - SKEW,
            exp: NOW + LIFE,
            jti: "00".into(),
            cnf: Confirmation {
                jwk: OkpKey::new(&Fixed([9; 32])),
            },
            eat_profile: PROFILE.into(),
            verifier_id: VerifierId {
                developer: "rempart".into(),
                build: "test".into(),
            },
            submods: Submods {
                machine: Machine {
                    status: "affirming".into(),
                    vector: TrustVector {
                        instance_identity: 2,
                        configuration: 2,
                        executables: 3,
                        hardware: None,
                        runtime_opaque: None,
                    },
                    policy: "p".into(),
                },
            },
            identity: "certified".into(),
            image: "i".into(),
            bank: Bank::Sha256,
            policy_counter: 3,
            tls_key: None,
            tee: None,
            systemd_report: None,
            rempart_roles: vec!["web".into()],
            roles: vec!["web".into()],
            policy_digest: Fixed::ZERO,
            evidence_digest: Fixed::ZERO,
        }
    }

    fn key() -> (Vec<u8>, Vec<u8>) {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("key");
        (pkcs8.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
    }

    #[test]
    fn it_counts_for_its_issuer_audience_key_and_time_only() {
        let (pkcs8, point) = key();
        let jwt = Signer::new(&pkcs8, "k").sign(&ear()).expect("signed");
        let verify = |point: &[u8], issuer: &str, audience: &str, now| Ear::verify(&jwt, point, issuer, audience, now);
        assert_eq!(verify(&point, "https://v", "openbao", NOW), Ok(ear()));
        assert_eq!(verify(&point, "https://w", "openbao", NOW), Err(EarError::Invalid));
        assert_eq!(verify(&point, "https://v", "vault", NOW), Err(EarError::Invalid));
        assert_eq!(verify(&key().1, "https://v", "openbao", NOW), Err(EarError::Invalid));
        assert!(matches!(
            verify(&point, "https://v", "openbao", NOW + LIFE),
            Err(EarError::NotNow { .. })
        ));
        assert!(matches!(
            verify(&point, "https://v", "openbao", NOW - 60),
            Err(EarError::NotNow { .. })
        ));
        assert_eq!(ear().confirmed_key(), Ok(Fixed([9; 32])));
    }

    #[test]
    fn an_unsigned_or_changed_one_does_not_count() {
        let (pkcs8, point) = key();
        let jwt = Signer::new(&pkcs8, "k").sign(&ear()).expect("signed");
        let (head, signature) = jwt.rsplit_once('.').expect("three parts");
        let payload = head.split_once('.').expect("two parts").1;
        let none = format!("eyJhbGciOiJub25lIn0.{payload}.");
        for bad in [
            none,
            format!("{head}."),
            format!("{head}x.{signature}"),
            "rubbish".into(),
        ] {
            assert_eq!(
                Ear::verify(&bad, &point, "https://v", "openbao", NOW),
                Err(EarError::Invalid)
            );
        }
    }

    #[test]
    fn the_claims_have_the_names_of_the_draft() {
        let json = serde_json::to_value(ear()).expect("json");
        assert_eq!(json["submods"]["machine"]["ear.status"], "affirming");
        assert_eq!(
            json["submods"]["machine"]["ear.trustworthiness-vector"]["instance-identity"],
            2
        );
        assert_eq!(json["cnf"]["jwk"]["crv"], "X25519");
        assert_eq!(json["rempart.roles"], json["roles"]);
    }
}
