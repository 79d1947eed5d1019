//! Enrolment in two messages without a session: the Verifier makes a credential that only the TPM with this EK and AK can activate,
//! and remembers everything in a token with a MAC that the node brings back together with the activated secret.

use aws_lc_rs::{constant_time, hmac};
use rempart_attest::api::{EnrolCompleteRequest, EnrolRequest, EnrolResponse};
use rempart_attest::bytes::sha256;
use rempart_attest::certificate::CertificateError;
use rempart_attest::tpm::credential::{self, CredentialError};
use rempart_attest::tpm::public::PublicError;
use rempart_attest::tpm::{AkPublic, EkPublic, PublicKey};
use rempart_attest::{Blob, Fixed};
use serde::{Deserialize, Serialize};

use crate::config::{Config, EkRule};
use crate::error::Error;
use crate::keys::random;
use crate::name::{self, NameError};
use crate::registry::{CERTIFIED, EnrolledEk, FIRST_USE, LISTED, Node, PENDING, RegistryError};

/// How long a credential may be answered, seconds: TPM2_ActivateCredential takes a few on a slow TPM.
const LIFE: u64 = 120;
const MAC_LEN: usize = 32;

/// Why an enrolment is refused. The node is to blame except for `Provider`.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Another version of the message.
    #[error("the node speaks enrolment version {0}, only 1 is known: bring node and Verifier to the same release")]
    Version(u8),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One of the keys is not accepted.
    #[error(transparent)]
    Key(#[from] PublicError),
    /// The EK certificate is not accepted.
    #[error(
        "node {node}: its TPM's EK certificate does not count: {source}; add its manufacturer to ek_roots if you trust it"
    )]
    Certificate {
        /// The node.
        node: String,
        /// Why.
        source: CertificateError,
    },
    /// There is no EK certificate and the rule demands one.
    #[error(
        "node {0}: its TPM has no EK certificate, so nobody vouches that it is a TPM: list its EK (rempart-verifier node add {0} --ek HEX), or set ek = \"approve\""
    )]
    NoCertificate(String),
    /// Registry's refusals: unknown node, name taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The credential cannot be made for this EK.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The token is not ours, or stale.
    #[error("the enrolment is {0}: enrol again")]
    Token(&'static str),
    /// The secret is not the one in the credential.
    #[error("node {0} did not activate the credential: its TPM does not hold both keys")]
    NotActivated(String),
    /// The provider failed.
    #[error("the cryptographic provider failed")]
    Provider,
}

impl From<Error> for EnrolError {
    fn from(_: Error) -> Self {
        Self::Provider
    }
}

#[derive(Serialize, Deserialize)]
struct Token {
    t: u64,
    node: String,
    ek: Fixed<32>,
    identity: String,
    ak: Blob,
    secret: Fixed<32>,
}

/// What completes: the TPM is proven, and this is what to remember and to certify.
#[derive(Debug)]
pub struct Activated {
    /// The node.
    pub node: String,
    /// Its TPM.
    pub ek: EnrolledEk,
    /// The AK.
    pub ak: PublicKey,
}

/// First message: `known` is what the registry says about the node.
pub fn begin(
    request: &EnrolRequest,
    known: Option<&Node>,
    config: &Config,
    key: &hmac::Key,
    now: u64,
) -> Result<EnrolResponse, EnrolError> {
    if request.v != 1 {
        return Err(EnrolError::Version(request.v));
    }
    let node = name::node(&request.node)?;
    let known = known.ok_or_else(|| RegistryError::UnknownNode(node.into()))?;
    let ek = EkPublic::parse(&request.ek_public.0)?;
    let ak = AkPublic::parse(&request.ak_public.0)?;
    let identity = identify(request, known, &ek, config, now)?;
    if let Some(holder) = known
        .ek
        .as_ref()
        .filter(|holder| holder.fingerprint != ek.fingerprint())
    {
        return Err(RegistryError::NameTaken {
            node: node.into(),
            holder: holder.fingerprint,
        }
        .into());
    }
    let secret = random::<32>()?;
    let credential = credential::make(&ek, ak.name(), &secret)?;
    let token = Token {
        t: now,
        node: node.into(),
        ek: ek.fingerprint(),
        identity: identity.into(),
        ak: Blob(ak.key().spki()),
        secret: sha256(secret.as_slice()),
    };
    Ok(EnrolResponse {
        credential_blob: credential.blob,
        encrypted_secret: credential.encrypted_secret,
        token: Blob(token.seal(key)),
    })
}

/// Second message.
pub fn complete(request: &EnrolCompleteRequest, key: &hmac::Key, now: u64) -> Result<Activated, EnrolError> {
    let token = Token::open(&request.token.0, key)?;
    if now < token.t || now - token.t > LIFE {
        return Err(EnrolError::Token("stale"));
    }
    constant_time::verify_slices_are_equal(&sha256(&request.secret.0).0, &token.secret.0)
        .map_err(|_| EnrolError::NotActivated(token.node.clone()))?;
    let ak = PublicKey::from_spki_der(&token.ak.0).ok_or(EnrolError::Token("not one of this Verifier"))?;
    let ek = EnrolledEk {
        fingerprint: token.ek,
        identity: token.identity,
        since: now,
    };
    Ok(Activated {
        node: token.node,
        ek,
        ak,
    })
}

/// What vouches for the EK.
fn identify(
    request: &EnrolRequest,
    known: &Node,
    ek: &EkPublic,
    config: &Config,
    now: u64,
) -> Result<&'static str, EnrolError> {
    let node = &known.name;
    if known
        .ek
        .as_ref()
        .is_some_and(|holder| holder.identity == LISTED && holder.fingerprint == ek.fingerprint())
    {
        return Ok(LISTED);
    }
    let traced = |der: &Blob| config.ek_roots.verify_with(&der.0, &request.ek_chain, ek, now);
    match (config.ek, &request.ek_certificate) {
        (EkRule::FirstUse, _) => Ok(FIRST_USE),
        // A good certificate needs no approval.
        (EkRule::Approve, Some(der)) if traced(der).is_ok() => Ok(CERTIFIED),
        (EkRule::Approve, _) => Ok(PENDING),
        (EkRule::Certified, None) => Err(EnrolError::NoCertificate(node.into())),
        (EkRule::Certified, Some(der)) => {
            let fail = |source| EnrolError::Certificate {
                node: node.into(),
                source,
            };
            traced(der).map(|()| CERTIFIED).map_err(fail)
        }
    }
}

impl Token {
    fn seal(&self, key: &hmac::Key) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("a Vec takes every byte");
        let mac = hmac::sign(key, &out);
        out.extend_from_slice(mac.as_ref());
        out
    }

    fn open(bytes: &[u8], key: &hmac::Key) -> Result<Self, EnrolError> {
        let foreign = || EnrolError::Token("not one of this Verifier");
        let (body, mac) = bytes.split_at(bytes.len().checked_sub(MAC_LEN).ok_or_else(foreign)?);
        hmac::verify(key, body, mac).map_err(|_| foreign())?;
        ciborium::from_reader(body).map_err(|_| foreign())
    }
}
