//! `/v1/challenge` and `/v1/attest`: verify, appraise, seal the result to the attested key.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use rempart_attest::api::{self, AttestResponse, ChallengeRequest, ChallengeResponse};
use rempart_attest::appraise::appraise;
use rempart_attest::ear::{Ear, Issue};
use rempart_attest::hpke::{self, Purpose};
use rempart_attest::policy::Identity;
use rempart_attest::tee::Endorsements;
use rempart_attest::verify::{self, Verified, verify};
use rempart_attest::{ChallengeToken, Evidence, Finding};

use super::Verifier;
use super::connection::Exporter;
use super::refusal::{Refused, parse};
use crate::active::ActiveError;
use crate::keys::random;
use crate::registry::{EnrolledEk, Node, RegistryError};
use crate::{clock, name};

/// A challenge for whoever asks: it costs nothing and holds nothing.
pub async fn challenge(State(verifier): State<Arc<Verifier>>, body: Bytes) -> Result<Json<ChallengeResponse>, Refused> {
    parse::<ChallengeRequest>(&body)?;
    let random = random::<16>().map_err(|e| Refused::internal(&e))?;
    let challenge = ChallengeToken::issue(&verifier.keys.challenge, clock::now(), *random, &verifier.config.id);
    Ok(Json(ChallengeResponse {
        challenge,
        verifier: verifier.config.id.clone(),
    }))
}

/// Evidence in, sealed result out.
pub async fn attest(
    State(verifier): State<Arc<Verifier>>,
    Extension(exporter): Extension<Exporter>,
    body: Bytes,
) -> Result<Json<AttestResponse>, Refused> {
    let evidence = Evidence::from_cbor(&body).map_err(|e| Refused::bad_request(e.to_string()))?;
    let (node, ek) = enrolled(&verifier, &evidence.node)?;
    let context = verify::Context {
        now: clock::now(),
        verifier: &verifier.config.id,
        challenge_key: &verifier.keys.challenge,
        authority: verifier.keys.authority.der(),
        exporter: &exporter.0,
        enrolled_ek: &ek.fingerprint,
        identity: Identity::from_word(&ek.identity).unwrap_or(Identity::FirstUse),
        endorsements: &Endorsements::default(),
        ak: None,
    };
    let verified = verify(&evidence, &context).map_err(|findings| Refused::findings(&node.name, findings))?;
    let jwt = result(&verifier, &node, &verified, context.now)?;
    let sealed = hpke::seal(
        Purpose::Ear,
        &verified.ephemeral,
        evidence.challenge.as_bytes(),
        jwt.as_bytes(),
    )
    .map_err(|e| Refused::bad_request(e.to_string()))?;
    Ok(Json(sealed.into()))
}

fn enrolled(verifier: &Verifier, name: &str) -> Result<(Node, EnrolledEk), Refused> {
    name::node(name).map_err(|e| Refused::bad_request(e.to_string()))?;
    let unknown = || RegistryError::UnknownNode(name.into());
    let node = verifier.registry.node(name)?.ok_or_else(unknown)?;
    match node.ek.clone() {
        Some(ek) => Ok((node, ek)),
        None => {
            let what = "the node has not enrolled with this Verifier";
            Err(Refused::findings(
                name,
                vec![Finding::new(
                    "enrolment",
                    name,
                    what,
                    "restart rempartd on the node, it enrols by itself",
                )],
            ))
        }
    }
}

/// Appraises and signs the result.
fn result(verifier: &Verifier, node: &Node, verified: &Verified, now: u64) -> Result<String, Refused> {
    let active = verifier.policy.current(&*verifier.registry).map_err(|e| match e {
        ActiveError::None => Refused::forbidden(format!("attestation of {} refused: {e}", node.name)),
        ActiveError::Policy(_) | ActiveError::Registry(_) => Refused::internal(&e),
    })?;
    let affirmed =
        appraise(verified, &active.policy, now).map_err(|findings| Refused::findings(&node.name, findings))?;
    let issue = Issue {
        issuer: &verifier.config.id,
        audience: &[api::AUDIENCE_OPENBAO, api::AUDIENCE_VERIFIER],
        now,
        jti: *random().map_err(|e| Refused::internal(&e))?,
        build: concat!("rempart-verifier ", env!("CARGO_PKG_VERSION")),
        roles: &node.roles,
        policy_digest: active.digest,
    };
    let signing = &verifier.keys.signing;
    let jwt = Ear::new(verified, &affirmed, &issue)
        .sign(signing.pkcs8(), signing.kid())
        .map_err(|e| Refused::internal(&e))?;
    tracing::info!(
        "{} affirmed: image \"{}\" of policy \"{}\" (counter {})",
        node.name,
        affirmed.image,
        affirmed.policy,
        active.policy.counter
    );
    Ok(jwt)
}
