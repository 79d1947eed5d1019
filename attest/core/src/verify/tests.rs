//! Each check on Evidence of a real boot; tests/matrix has the whole list.

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
    evidence.tpm.signature.0 = other.tpm.sign(&evidence.tpm.quote.0);
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
