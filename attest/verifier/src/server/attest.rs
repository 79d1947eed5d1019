//! `/v1/challenge` and `/v1/attest`: verify, appraise, seal the result to the attested key. Evidence that is authentic and not affirmed
//! is drift: it latches the node. Evidence that is not authentic could be anybody's and changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use rempart_attest::api::{self, AttestResponse, ChallengeRequest, ChallengeResponse};
use rempart_attest::appraise::{Affirmed, appraise};
use rempart_attest::ear::{Ear, Issue, Judged};
use rempart_attest::evidence::TeeEvidence;
use rempart_attest::hpke::{self, Purpose};
use rempart_attest::policy::{Identity, Image, Policy};
use rempart_attest::tee::Endorsements;
use rempart_attest::verify::{self, Verified};
use rempart_attest::{ChallengeToken, Evidence, Finding, limits};

use super::Verifier;
use super::admission::Source;
use super::body::Received;
use super::connection::Exporter;
use super::refusal::{Refused, parse};
use crate::keys::random;
use crate::registry::cache::{Active, ActiveError};
use crate::registry::{EnrolledEk, Latch, Node, PENDING, RegistryError};
use crate::{clock, name};

/// Bytes of a latch's reason: one line of a list.
const REASON: usize = 400;
/// What the latch is noted under in the history.
const SELF: &str = "verifier";

/// A challenge for whoever asks: it costs nothing and holds nothing.
pub async fn challenge(
    State(verifier): State<Arc<Verifier>>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<ChallengeResponse>, Refused> {
    parse::<ChallengeRequest>(&body.bytes)?;
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
    Extension(source): Extension<Source>,
    body: Received<{ limits::EVIDENCE }>,
) -> Result<Json<AttestResponse>, Refused> {
    let evidence = Evidence::from_cbor(&body.bytes).map_err(|e| Refused::bad_request(e.to_string()))?;
    name::node(&evidence.node).map_err(|e| Refused::bad_request(e.to_string()))?;
    verifier.admission.claim(source, &evidence.node)?;
    let (node, ek) = enrolled(&verifier, &evidence.node).await?;
    let ak = verifier.rounds.ak(&evidence.tpm.ak_certificate);
    let context = verify::Context {
        now: clock::now(),
        verifier: &verifier.config.id,
        challenge_key: &verifier.keys.challenge,
        authority: verifier.keys.authority.der(),
        exporter: &exporter.0,
        enrolled_ek: &ek.fingerprint,
        identity: Identity::from_word(&ek.identity).unwrap_or(Identity::FirstUse),
        endorsements: &Endorsements::default(),
        ak: ak.as_ref(),
    };
    let active = policy(&verifier, &node).await?;
    let tee = evidence
        .tee
        .as_ref()
        .filter(|_| active.policy.images.iter().any(judges_tee));
    let verified = match (verify::tpm(&evidence, &context), tee) {
        (Ok(verified), None) => verified,
        (Ok(verified), Some(tee)) => {
            let endorsements = verifier.endorser.gather(&evidence.node, tee, context.now).await;
            verified.with_tee(&evidence, &endorsements, context.now)
        }
        (Err(findings), tee) => {
            let all = with_tees_reasons(&verifier, &evidence, &context, tee).await;
            return Err(Refused::findings(&node.name, all.unwrap_or(findings)));
        }
    };
    drop(body);
    let affirmed = judge(&verifier, &node, &verified, &active).await?;
    let certificate = client_certificate(&verifier, &node, &verified)?;
    let jwt = result(&verifier, &node, &verified, &affirmed, &active)?;
    let sealed = hpke::seal(
        Purpose::Ear,
        &verified.ephemeral,
        evidence.challenge.as_bytes(),
        jwt.as_bytes(),
    )
    .map_err(|e| Refused::bad_request(e.to_string()))?;
    Ok(Json(AttestResponse {
        certificate,
        ..sealed.into()
    }))
}

async fn enrolled(verifier: &Verifier, name: &str) -> Result<(Arc<Node>, EnrolledEk), Refused> {
    let unknown = || RegistryError::UnknownNode(name.into());
    let node = verifier.recent.node(name).await?.ok_or_else(unknown)?;
    match node.ek.clone() {
        Some(ek) => Ok((node, ek)),
        None => {
            let what = "the node has not enrolled with this Verifier";
            let remedy = "restart rempartd on the node, it enrols by itself";
            let finding = Finding::new("enrolment", name, what, remedy);
            Err(Refused::findings(name, vec![finding]))
        }
    }
}

async fn policy(verifier: &Verifier, node: &Node) -> Result<Arc<Active>, Refused> {
    verifier.recent.policy().await.map_err(|error| match error {
        // A finding, so that the node can tell: it is not the one to blame, and asks again.
        ActiveError::None => {
            let remedy = "rempart-verifier policy install FILE";
            Refused::findings(
                &node.name,
                vec![Finding::new("policy", "policy", "the Verifier has none", remedy)],
            )
        }
        ActiveError::Policy(_) | ActiveError::Signature(_) => Refused::internal(&error),
        ActiveError::Registry(_) => Refused::unavailable(&error),
    })
}

fn judges_tee(image: &Image) -> bool {
    image.snp.is_some() || image.tdx.is_some()
}

/// All that is wrong with Evidence whose TPM part is refused, its TEE's part included as far as the report's key is known already:
/// finding out what the vendor says of a chip costs the vendor's patience, and nobody may spend that but a node that has shown who it is.
async fn with_tees_reasons(
    verifier: &Verifier,
    evidence: &Evidence,
    context: &verify::Context<'_>,
    tee: Option<&TeeEvidence>,
) -> Option<Vec<Finding>> {
    let endorsements = verifier.endorser.remembered(tee?, context.now).await?;
    let context = verify::Context {
        endorsements: &endorsements,
        ..*context
    };
    verify::verify(evidence, &context).err()
}

/// Appraises. Whatever the registry says against the node is reported with what its Evidence says.
async fn judge(verifier: &Verifier, node: &Node, verified: &Verified, active: &Active) -> Result<Affirmed, Refused> {
    let appraised = match (
        appraise(verified, &active.policy, clock::now()),
        verifier.rounds.follow(verified),
    ) {
        (appraised, Ok(())) => appraised,
        (Ok(_), Err(broken)) => Err(vec![broken]),
        (Err(findings), Err(broken)) => Err([findings, vec![broken]].concat()),
    };
    let standing: Vec<Finding> = [latched(node), pending(node)].into_iter().flatten().collect();
    let findings = match appraised {
        Ok(affirmed) if standing.is_empty() => {
            verifier.seen.note(&node.name, "affirming");
            return Ok(affirmed);
        }
        Ok(_) => vec![],
        Err(findings) => findings,
    };
    verifier.seen.note(&node.name, "refused");
    let drift: Vec<&Finding> = findings.iter().filter(|finding| is_drift(finding, node)).collect();
    // A TPM that nobody approved yet says nothing about the node.
    let mut held = !standing.is_empty();
    if !held && !drift.is_empty() {
        hold(verifier, node, &drift).await?;
        held = true;
    }
    let all = standing.into_iter().chain(findings).collect();
    Err(if held {
        Refused::latched(&node.name, all)
    } else {
        Refused::findings(&node.name, all)
    })
}

/// Checks of what did not come from the node though its name stands there: what vouches for its TPM was known before it booted, and
/// the certificates of a TEE's key are the host's or the vendor's, who mix them up when a guest moves.
const FROM_OTHERS: [&str; 10] = [
    "identity",
    "snp-certificate-table",
    "snp-root",
    "snp-root-generation",
    "snp-ark",
    "snp-ask",
    "snp-vek",
    "snp-vek-extensions",
    "snp-vek-kind",
    "tdx-tcb-unknown",
];

/// The node's TPM has spoken authentically on this very connection, so what else it sent is its own word: a report of its TEE that is not
/// authentic, or whose key was revoked, is as much a change as another register. A finding about the policy or about ourselves says
/// nothing about the node.
fn is_drift(finding: &Finding, node: &Node) -> bool {
    finding.who == node.name && !FROM_OTHERS.contains(&finding.check.as_str())
}

/// Latches, and has the vault told, unless another replica was faster.
async fn hold(verifier: &Verifier, node: &Node, drift: &[&Finding]) -> Result<(), Refused> {
    let what: Vec<&str> = drift.iter().map(|finding| finding.what.as_str()).collect();
    let mut reason = what.join("; ");
    if reason.len() > REASON {
        let end = (0..=REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
    let newly = verifier
        .registry
        .latch(&node.name, &reason, &verifier.act(SELF))
        .await?;
    verifier.recent.forget(&node.name);
    if newly {
        tracing::error!(
            "{} drifted and is refused until rempart-verifier node clear {}: {reason}",
            node.name,
            node.name
        );
        if let Some(revoker) = &verifier.revoker {
            revoker.wake();
        }
    }
    Ok(())
}

fn latched(node: &Node) -> Option<Finding> {
    let Latch { reason, since } = node.latch.as_ref()?;
    let what = format!(
        "the node drifted at {} and stays refused: {reason}",
        clock::show(*since)
    );
    let remedy = format!("find out why, then rempart-verifier node clear {}", node.name);
    Some(Finding::new("drift-latched", &node.name, what, remedy))
}

fn pending(node: &Node) -> Option<Finding> {
    let ek = node.ek.as_ref().filter(|ek| ek.identity == PENDING)?;
    let what = "the node's TPM was the first under this name and nobody approved it yet";
    let remedy = format!(
        "compare the EK's fingerprint with the machine's, then rempart-verifier node approve {} --ek {}",
        node.name, ek.fingerprint
    );
    Some(Finding::new("enrolment-pending", &node.name, what, remedy).found(ek.fingerprint.to_string()))
}

/// Signs the result.
fn result(
    verifier: &Verifier,
    node: &Node,
    verified: &Verified,
    affirmed: &Affirmed,
    active: &Active,
) -> Result<String, Refused> {
    let issue = Issue {
        issuer: &verifier.config.id,
        audience: &[api::AUDIENCE_OPENBAO, api::AUDIENCE_VERIFIER],
        now: clock::now(),
        jti: *random().map_err(|e| Refused::internal(&e))?,
        build: concat!("rempart-verifier ", env!("CARGO_PKG_VERSION")),
        roles: &node.roles,
        identity: node.ek.as_ref().map_or("", |ek| ek.identity.as_str()),
        judged: judged(affirmed, &active.policy),
        policy_digest: active.digest,
        policy_counter: active.policy.counter,
    };
    let signer = verifier.keys.signing.jwt();
    let jwt = signer
        .sign(&Ear::new(verified, affirmed, &issue))
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

/// What more than the boot the image's reference values judge.
fn judged(affirmed: &Affirmed, policy: &Policy) -> Judged {
    let image = policy.images.iter().find(|image| image.name == affirmed.image);
    Judged {
        tee: image.is_some_and(judges_tee),
        ima: image.is_some_and(|image| image.ima.is_some()),
    }
}

/// For the TLS key that this Evidence certified, where it did.
fn client_certificate(verifier: &Verifier, node: &Node, verified: &Verified) -> Result<Option<String>, Refused> {
    let Some(tls) = &verified.tls_key else {
        return Ok(None);
    };
    // A login that nobody could end when the node drifts is not made possible.
    if verifier.config.vault.as_ref().is_some_and(|vault| !vault.certificates) {
        let what = "the node asks for a client certificate, and the Verifier could not end a login at the vault by it";
        let remedy = "name the vault's mount for certificates as vault.cert_mount in the Verifier's configuration, or use auth = \"jwt\" on the node";
        let finding = Finding::new("client-certificate", "verifier", what, remedy);
        return Err(Refused::findings(&node.name, vec![finding]));
    }
    let certificate = verifier.keys.clients.certify_client(&node.name, &node.roles, &tls.key);
    certificate.map(Some).map_err(|e| Refused::internal(&e))
}
