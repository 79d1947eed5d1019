//! The HTTP messages between node and Verifier: JSON except for the Evidence (CBOR). Both ends compute the TLS exporter of the
//! connection, therefore challenge and attest travel on the same one.

use serde::{Deserialize, Serialize};

use crate::bytes::Blob;
use crate::challenge::ChallengeToken;
use crate::finding::Finding;
use crate::hpke::Sealed;

/// RFC 8446 7.5 exporter label; no context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-rempart-attest-v1";
/// Bytes of exported keying material.
pub const EXPORTER_LEN: usize = 32;

/// `POST` → [`ChallengeResponse`].
pub const CHALLENGE: &str = "/v1/challenge";
/// `POST` [`EnrolRequest`] → [`EnrolResponse`].
pub const ENROL: &str = "/v1/enrol";
/// `POST` [`EnrolCompleteRequest`] → [`EnrolCompleteResponse`].
pub const ENROL_COMPLETE: &str = "/v1/enrol/complete";
/// `POST` Evidence as CBOR → [`AttestResponse`].
pub const ATTEST: &str = "/v1/attest";
/// `POST` [`SecretsRequest`] → [`SecretsResponse`].
pub const SECRETS: &str = "/v1/secrets";
/// `POST` [`AccessorRequest`] → [`AccessorResponse`].
pub const ACCESSOR: &str = "/v1/accessor";
/// `POST` [`WatchRequest`] → [`WatchResponse`], held until the policy in force is another one or [`crate::limits::WATCH_HOLD`] is over.
pub const WATCH: &str = "/v1/watch";
/// `GET` OpenID discovery document.
pub const OPENID: &str = "/.well-known/openid-configuration";
/// `GET` JWK set.
pub const JWKS: &str = "/.well-known/jwks.json";

/// Content type of Evidence.
pub const CBOR: &str = "application/cbor";
/// Audience of a result for the vault.
pub const AUDIENCE_OPENBAO: &str = "openbao";
/// Audience of a result for the Verifier's own store.
pub const AUDIENCE_VERIFIER: &str = "rempart-verifier";

/// Asks for a challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {}

/// A challenge, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeResponse {
    /// Sent back unchanged in the Evidence.
    pub challenge: ChallengeToken,
    /// The Verifier's identifier; goes into the binding.
    pub verifier: String,
}

/// Asks for an AK certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// 1.
    pub v: u8,
    /// The node's name.
    pub node: String,
    /// TPM2B_PUBLIC of the EK (RSA-2048 default template).
    pub ek_public: Blob,
    /// DER from NV index 0x01c00002, where there is one.
    pub ek_certificate: Option<Blob>,
    /// What else of the manufacturer's chain the TPM holds, DER each, at most [`crate::limits::CHAIN`]: a help to find the way to a root
    /// that the Verifier trusts, never one itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ek_chain: Vec<Blob>,
    /// TPM2B_PUBLIC of the AK.
    pub ak_public: Blob,
}

/// A credential that only the TPM which has both keys can activate (TPM 2.0 Part 1, 24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// TPM2B_ID_OBJECT.
    pub credential_blob: Blob,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: Blob,
    /// Sent back unchanged.
    pub token: Blob,
}

/// Proves that the credential was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolCompleteRequest {
    /// From [`EnrolResponse`].
    pub token: Blob,
    /// What TPM2_ActivateCredential gave.
    pub secret: Blob,
}

/// The AK's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolCompleteResponse {
    /// PEM, common name = node.
    pub ak_certificate: String,
}

/// A result sealed to the attested key ([`crate::hpke::Purpose::Ear`], associated data = challenge bytes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestResponse {
    /// HPKE ciphertext of the EAR JWT.
    pub result: Blob,
    /// HPKE encapsulated key.
    pub encapsulated: Blob,
    /// PEM of a client certificate for the TLS key that the Evidence certified, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// Names a vault token by its accessor, so that the Verifier can have it revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessorRequest {
    /// The result that the token was had for (JWT).
    pub ear: String,
    /// The token's accessor: good for revoking and looking up, not for reading.
    pub accessor: String,
    /// The role that it was had for.
    pub role: String,
}

/// Noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessorResponse {}

/// Asks to be told when another policy is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Digest of the policy that the node was judged by, as in its result.
    pub policy: String,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchResponse {
    /// Its digest.
    pub policy: String,
}

/// Asks the Verifier's own store for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsRequest {
    /// The EAR JWT.
    pub ear: String,
    /// The role under which they are asked.
    pub role: String,
    /// Their names.
    pub names: Vec<String>,
}

/// Secrets sealed to the key in the result's `cnf` ([`crate::hpke::Purpose::Secrets`], associated data = `jti` bytes);
/// the plaintext is [`crate::secrets::SecretBundle`] as CBOR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsResponse {
    /// HPKE ciphertext.
    pub sealed: Blob,
    /// HPKE encapsulated key.
    pub encapsulated: Blob,
}

/// A refusal: HTTP status 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was refused, why, what to do: one line.
    pub error: String,
    /// All failed checks.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// The Verifier refuses this node until an operator clears it, whatever it sends.
    #[serde(default)]
    pub latched: bool,
}

impl From<Sealed> for AttestResponse {
    fn from(sealed: Sealed) -> Self {
        Self {
            result: sealed.sealed,
            encapsulated: sealed.encapsulated,
            certificate: None,
        }
    }
}

impl From<AttestResponse> for Sealed {
    fn from(response: AttestResponse) -> Self {
        Self {
            sealed: response.result,
            encapsulated: response.encapsulated,
        }
    }
}

impl From<Sealed> for SecretsResponse {
    fn from(sealed: Sealed) -> Self {
        Self {
            sealed: sealed.sealed,
            encapsulated: sealed.encapsulated,
        }
    }
}

impl From<SecretsResponse> for Sealed {
    fn from(response: SecretsResponse) -> Self {
        Self {
            sealed: response.sealed,
            encapsulated: response.encapsulated,
        }
    }
}
