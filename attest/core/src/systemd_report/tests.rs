//! Recorded reports verify and say what they should; tests/matrix has what is refused.

use super::*;
use crate::testing::{
    Authority, Draft, EK, NOW, Node, ORDINARY, REPORT_NONCE, REPORT_OWN_KEY, REPORT_P256, REPORT_P384, REPORT_RSA,
    Recorded, SoftTpm, recorded_pcrs, with_report,
};
use crate::verify::verify;

fn judged(recorded: &Recorded) -> SystemdReport {
    let (node, evidence) = recorded.evidence(&Authority::default());
    let verified = verify(&evidence, &node.context()).unwrap_or_else(|findings| panic!("{findings:?}"));
    verified.systemd_report.expect("a report")
}

#[test]
fn reports_of_a_real_systemd_by_each_kind_of_key_verify() {
    for recorded in [REPORT_P256, REPORT_RSA, REPORT_P384] {
        let report = judged(&recorded);
        assert_eq!(report.freshness, Freshness::Clock);
        assert_eq!(report.registers, [0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15]);
        assert_eq!(
            report.identity.map(|value| value.to_string()).as_deref(),
            Some("91d383891c0f27e3677ba20b911021e72feac19471f8c42f907953abc9898918")
        );
        let names: Vec<_> = report
            .nvpcrs
            .iter()
            .map(|(name, held)| (name.as_str(), held.index))
            .collect();
        assert_eq!(
            names,
            [("hardware", 0x1d1_0200), ("login", 0x1d1_0203), ("verity", 0x1d1_0202)]
        );
        assert_eq!(report.facts["io.systemd.Basic.Virtualization"], "systemd-nspawn");
    }
}

#[test]
fn a_report_with_the_binding_as_nonce_says_so() {
    assert_eq!(judged(&REPORT_NONCE).freshness, Freshness::Nonce);
}

#[test]
fn kept_evidence_shows_its_report_to_a_policy_that_is_tried_on_it() {
    let (_, mut evidence) = REPORT_P256.evidence(&Authority::default());
    let kept = crate::verify::unverified(&evidence).expect("registers");
    assert!(kept.pretend().systemd_report.is_some());
    evidence.systemd_report.0.truncate(100);
    assert!(crate::verify::unverified(&evidence).is_err());
}

#[test]
fn one_that_a_tpm_in_software_signed_verifies_too() {
    let node = Node::new();
    let mut evidence = node.evidence(&ORDINARY);
    with_report(&node, &mut evidence);
    let verified = verify(&evidence, &node.context()).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert_eq!(verified.systemd_report.map(|r| r.freshness), Some(Freshness::Clock));
}

#[test]
fn a_node_can_tell_early_that_systemd_signs_with_another_key() {
    let ak = REPORT_P256.ak().id();
    assert_eq!(names_key(REPORT_P256.report, &ak), Ok(true));
    assert_eq!(names_key(REPORT_OWN_KEY, &ak), Ok(false));
    assert!(names_key(b"", &ak).is_err());
}

/// A changed byte is refused, or it lies where nothing is signed and nothing is read: then the report says the same as before.
#[test]
fn no_changed_byte_of_a_real_report_changes_what_it_says() {
    let (node, evidence) = REPORT_P256.evidence(&Authority::default());
    let verified = verify(&evidence, &node.context()).expect("verifies");
    let quote = verified.quote.clone();
    let binding = node.binding(&evidence).0;
    let pcrs = recorded_pcrs();
    let expected = verified.systemd_report.expect("a report");
    let against = Against {
        ak: &node.tpm.key,
        nonce: Some(&binding[..32]),
        clock: Some(&quote.clock),
        pcrs: Some(&pcrs),
        identity: expected.identity.expect("quoted"),
        boot_id: &evidence.boot_id,
    };
    let mut bytes = REPORT_P256.report.to_vec();
    let from = bytes.windows(11).position(|w| w == b"\"publicKey\"").expect("the key");
    // The event log is the larger part and is not looked at; its first bytes stand for it.
    for at in (0..2000).chain(from..bytes.len()) {
        let kept = bytes[at];
        for other in [kept ^ 1, b'"'] {
            bytes[at] = other;
            if let Ok(said) = verify::verify(&bytes, &against) {
                assert_eq!(said, expected, "byte {at} as {other:#x}");
            }
        }
        bytes[at] = kept;
    }
}

#[test]
fn a_signature_by_the_ak_of_another_node_does_not_count_here() {
    let authority = Authority::default();
    let other = Node::enrolled(&authority, "demo-2", EK, SoftTpm::new(crate::testing::AkKind::P256));
    let node = Node::enrolled(&authority, "demo-1", EK, SoftTpm::new(crate::testing::AkKind::P256));
    let mut evidence = node.evidence(&ORDINARY);
    evidence.systemd_report = Blob(Draft::new(&other, &evidence).seal(&other.tpm, |_| ()));
    let refused = verify(&evidence, &node.context()).expect_err("another's");
    assert_eq!(
        refused.iter().map(|f| f.check.as_str()).collect::<Vec<_>>(),
        ["systemd-report-key"]
    );
    assert_eq!(NOW, node.context().now);
}
