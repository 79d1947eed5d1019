//! *Verify* (RFC 9334): signatures, chain, freshness, binding. Nothing here compares with a policy. Each check is its own function
//! with its own finding, and all of them run, so that an operator sees every reason at once.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use aws_lc_rs::hmac;

use crate::ak::{self, AkCertificate};
use crate::binding::Binding;
use crate::bytes::{Fixed, sha256};
use crate::eventlog::{Event, replay, uefi, userspace};
use crate::evidence::{Evidence, GuardClaim};
use crate::finding::Finding;
use crate::pcr::{JUDGED, Pcrs, QUOTED};
use crate::tpm::Quote;
use crate::tpm::signature;

const RETRY: &str = "nothing to do if the next attempt succeeds; if it does not, look at the node";
const ENROL_AGAIN: &str = "enrol the node again with this Verifier";

/// What a Verifier knows of itself and of the connection.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Unix seconds.
    pub now: u64,
    /// The Verifier's identifier.
    pub verifier: &'a str,
    /// Key of its challenges.
    pub challenge_key: &'a hmac::Key,
    /// DER of the authority that signs AK certificates.
    pub authority: &'a [u8],
    /// TLS exporter of the connection that the Evidence came on.
    pub exporter: &'a Fixed<32>,
    /// Fingerprint of the EK that holds this node's name.
    pub enrolled_ek: &'a Fixed<32>,
}

/// Evidence whose quote is authentic, fresh and bound to this exchange. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The node.
    pub node: String,
    /// Key for the result.
    pub ephemeral: Fixed<32>,
    /// Quoted registers.
    pub pcrs: Pcrs,
    /// The quote's other contents.
    pub quote: Quote,
    /// The boot.
    pub boot_id: Fixed<16>,
    /// Head of the node's audit log.
    pub audit_head: Fixed<32>,
    /// What the measured software says of its guard.
    pub guard: GuardClaim,
    /// SHA-256 of the Evidence as CBOR.
    pub evidence_digest: Fixed<32>,
    pub(crate) events: Vec<Event>,
    pub(crate) log_findings: Vec<Finding>,
}

/// Runs every check. The quoted registers of an authentic quote can be appraised even where the logs are wrong, so findings about
/// logs wait in [`Verified`] and fail the appraisal together with its own.
pub fn verify(evidence: &Evidence, context: &Context<'_>) -> Result<Verified, Vec<Finding>> {
    let mut findings = Vec::new();
    let challenge = challenge_is_fresh(evidence, context);
    let certificate = ak_is_certified(evidence, context);
    let enrolled = certificate
        .as_ref()
        .ok()
        .map_or(Ok(()), |c| ek_is_enrolled(evidence, c, context));
    let quote = quote_is_pinned(evidence);
    let signed = certificate
        .as_ref()
        .ok()
        .map_or(Ok(()), |c| quote_is_signed(evidence, c));
    let bound = match (&quote, &certificate) {
        (Ok(quote), Ok(certificate)) => quote_is_bound(evidence, quote, certificate, context),
        _ => Ok(()),
    };
    let pcrs = quote
        .as_ref()
        .map_err(|_| None)
        .and_then(|q| values_are_quoted(evidence, q).map_err(Some));

    for failed in [challenge, certificate.map(drop), enrolled, signed, bound] {
        findings.extend(failed.err());
    }
    let (quote, pcrs) = match (quote, pcrs) {
        (Ok(quote), Ok(pcrs)) if findings.is_empty() => (quote, pcrs),
        (quote, pcrs) => {
            findings.extend(quote.err());
            findings.extend(pcrs.err().flatten());
            return Err(findings);
        }
    };
    let (events, log_findings) = logs_equal_quote(evidence, &pcrs);
    Ok(Verified {
        node: evidence.node.clone(),
        ephemeral: evidence.ephemeral,
        pcrs,
        quote,
        boot_id: evidence.boot_id,
        audit_head: evidence.audit_head,
        guard: evidence.guard.clone(),
        evidence_digest: sha256(&evidence.to_cbor()),
        events,
        log_findings,
    })
}

fn challenge_is_fresh(evidence: &Evidence, context: &Context<'_>) -> Result<(), Finding> {
    evidence
        .challenge
        .verify(context.challenge_key, context.now, context.verifier)
        .map_err(|e| Finding::new("challenge", &evidence.node, e.to_string(), RETRY))
}

fn ak_is_certified(evidence: &Evidence, context: &Context<'_>) -> Result<AkCertificate, Finding> {
    ak::verify(
        &evidence.tpm.ak_certificate,
        context.authority,
        &evidence.node,
        context.now,
    )
    .map_err(|e| {
        Finding::new(
            "ak-certificate",
            &evidence.node,
            format!("the AK certificate does not count: {e}"),
            ENROL_AGAIN,
        )
    })
}

fn ek_is_enrolled(evidence: &Evidence, certificate: &AkCertificate, context: &Context<'_>) -> Result<(), Finding> {
    if certificate.ek == *context.enrolled_ek {
        return Ok(());
    }
    let what = "the AK certificate was given to another TPM than the one that holds this name now";
    Err(Finding::new("ek", &evidence.node, what, ENROL_AGAIN)
        .expected(context.enrolled_ek.to_string())
        .found(certificate.ek.to_string()))
}

fn quote_is_pinned(evidence: &Evidence) -> Result<Quote, Finding> {
    let remedy = "the node's agent must quote the registers 0 to 14 of the bank that it names; bring node and Verifier to the same release";
    Quote::parse(&evidence.tpm.quote.0, evidence.tpm.bank)
        .map_err(|e| Finding::new("quote", &evidence.node, e.to_string(), remedy))
}

fn quote_is_signed(evidence: &Evidence, certificate: &AkCertificate) -> Result<(), Finding> {
    signature::verify(&certificate.point, &evidence.tpm.quote.0, &evidence.tpm.signature.0).map_err(|e| {
        Finding::new(
            "signature",
            &evidence.node,
            e.to_string(),
            "treat the node as hostile unless its TPM was just replaced; then enrol it again",
        )
    })
}

fn quote_is_bound(
    evidence: &Evidence,
    quote: &Quote,
    certificate: &AkCertificate,
    context: &Context<'_>,
) -> Result<(), Finding> {
    let binding = Binding {
        challenge: evidence.challenge.as_bytes(),
        ephemeral: &evidence.ephemeral,
        verifier: context.verifier,
        exporter: context.exporter,
        boot_id: &evidence.boot_id,
        audit_head: &evidence.audit_head,
        ak: &certificate.key_id,
        claims: &evidence.guard.digest(),
    };
    let expected = binding.qualifying_data();
    if quote.extra_data == expected.0 {
        return Ok(());
    }
    let what = "the quote is not bound to this challenge, key, boot and TLS connection: it was relayed, replayed or made for another exchange";
    Err(Finding::new(
        "binding",
        &evidence.node,
        what,
        "if there is a TLS proxy between node and Verifier, remove it; else treat as an attack",
    )
    .expected(expected.to_string())
    .found(hex::encode(&quote.extra_data)))
}

fn values_are_quoted(evidence: &Evidence, quote: &Quote) -> Result<Pcrs, Finding> {
    let fail = |what: &str| Finding::new("pcr-digest", &evidence.node, what, RETRY);
    let pcrs = evidence
        .claimed_pcrs()
        .ok_or_else(|| fail("a PCR stands twice in the Evidence, or is of another bank than it names"))?;
    if !pcrs.values.keys().copied().eq(QUOTED) {
        return Err(fail("the Evidence does not carry exactly the PCRs 0 to 14"));
    }
    let digest = pcrs.digest(quote.pcr_digest.bank());
    if digest == quote.pcr_digest {
        return Ok(pcrs);
    }
    Err(fail("the PCR values are not the ones that were quoted")
        .expected(quote.pcr_digest.to_string())
        .found(digest.to_string()))
}

/// Reads and replays both logs; each judged register must come out as quoted.
fn logs_equal_quote(evidence: &Evidence, pcrs: &Pcrs) -> (Vec<Event>, Vec<Finding>) {
    let fail = |what: String| Finding::new("event-log", &evidence.node, what, RETRY);
    let mut findings = Vec::new();
    let mut events = uefi::parse(&evidence.tpm.uefi_log.0, evidence.tpm.bank).unwrap_or_else(|e| {
        findings.push(fail(e.to_string()));
        vec![]
    });
    match userspace::parse(&evidence.tpm.userspace_log.0, evidence.tpm.bank) {
        Ok(more) => events.extend(more),
        Err(e) => findings.push(fail(e.to_string())),
    }
    if findings.is_empty() {
        let replayed = replay::replay(evidence.tpm.bank, &events);
        for pcr in JUDGED {
            let (logged, quoted) = (
                replayed.value(pcr).unwrap_or(pcrs.bank.zero()),
                pcrs.value(pcr).unwrap_or(pcrs.bank.zero()),
            );
            if logged != quoted {
                let what = format!(
                    "the event logs do not add up to the quoted PCR {pcr}: an event is missing, added or changed"
                );
                findings.push(
                    fail(what)
                        .pcr(pcr)
                        .expected(quoted.to_string())
                        .found(logged.to_string()),
                );
            }
        }
    }
    (events, findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EK, EXPORTER, NOW, Node, ORDINARY};

    fn checks(result: Result<Verified, Vec<Finding>>) -> Vec<String> {
        result.expect_err("refused").into_iter().map(|f| f.check).collect()
    }

    #[test]
    fn evidence_of_a_real_boot_verifies() {
        let node = Node::new();
        let verified = verify(&node.evidence(&ORDINARY), &node.context()).expect("verifies");
        assert_eq!(verified.pcrs, ORDINARY.pcrs());
        assert!(verified.log_findings.is_empty(), "{:?}", verified.log_findings);
    }

    #[test]
    fn each_part_of_the_context_counts() {
        let node = Node::new();
        let evidence = node.evidence(&ORDINARY);
        let good = node.context();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[2; 32]);
        let other = Fixed([9; 32]);
        let stranger = Node::new();
        assert_eq!(
            checks(verify(&evidence, &Context { now: NOW + 121, ..good })),
            ["challenge"]
        );
        assert_eq!(
            checks(verify(
                &evidence,
                &Context {
                    challenge_key: &key,
                    ..good
                }
            )),
            ["challenge"]
        );
        assert_eq!(
            checks(verify(
                &evidence,
                &Context {
                    verifier: "https://other",
                    ..good
                }
            )),
            ["challenge", "binding"]
        );
        assert_eq!(
            checks(verify(
                &evidence,
                &Context {
                    exporter: &other,
                    ..good
                }
            )),
            ["binding"]
        );
        assert_eq!(
            checks(verify(
                &evidence,
                &Context {
                    enrolled_ek: &other,
                    ..good
                }
            )),
            ["ek"]
        );
        assert_eq!(
            checks(verify(
                &evidence,
                &Context {
                    authority: &stranger.authority,
                    ..good
                }
            )),
            ["ak-certificate"]
        );
        assert_eq!((EK, EXPORTER), (*good.enrolled_ek, *good.exporter));
    }

    #[test]
    fn everything_that_fails_is_reported_together() {
        let node = Node::new();
        let mut evidence = node.evidence(&ORDINARY);
        evidence.boot_id = Fixed([1; 16]);
        evidence.tpm.pcrs[3].1 = Fixed([1; 32]).into();
        evidence.tpm.signature.0[10] ^= 1;
        let late = Context {
            now: NOW + 121,
            ..node.context()
        };
        assert_eq!(
            checks(verify(&evidence, &late)),
            ["challenge", "signature", "binding", "pcr-digest"]
        );
    }

    #[test]
    fn another_nodes_key_does_not_sign_for_this_one() {
        let (node, other) = (Node::new(), Node::new());
        let mut evidence = node.evidence(&ORDINARY);
        other.quote(&mut evidence);
        assert_eq!(checks(verify(&evidence, &node.context())), ["signature"]);
    }

    #[test]
    fn logs_that_do_not_add_up_wait_for_the_appraisal_with_their_register() {
        let node = Node::new();
        let mut evidence = node.evidence(&ORDINARY);
        evidence.tpm.userspace_log.0.clear();
        let verified = verify(&evidence, &node.context()).expect("the quote is authentic");
        let registers: Vec<_> = verified.log_findings.iter().map(|f| f.pcr).collect();
        assert_eq!(registers, [Some(11)]);
    }

    #[test]
    fn an_unknown_event_in_a_judged_register_is_a_missing_one() {
        let node = Node::new();
        let mut evidence = node.evidence(&ORDINARY);
        // The TPM saw one more event than the log tells.
        evidence.tpm.pcrs[4].1 = crate::pcr::extended(&evidence.tpm.pcrs[4].1, &Fixed([1; 32]).into());
        node.quote(&mut evidence);
        let verified = verify(&evidence, &node.context()).expect("the quote is authentic");
        assert_eq!(
            verified.log_findings.iter().map(|f| f.pcr).collect::<Vec<_>>(),
            [Some(4)]
        );
    }
}
