//! The Evidence that an operator can keep, and what status and doctor say of the machine.

use rempart_attest::Evidence;

use crate::{ALLOW, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_that_was_sent_can_be_kept_in_both_formats_also_when_it_was_refused() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    let save = |name: &str, more: &[&str]| {
        let file = world.at(name).display().to_string();
        let output = world.rempart(&[&["attest", "--save", &file], more].concat());
        (output.status.code(), std::fs::read(&file))
    };
    let (code, json) = save("evidence.json", &[]);
    assert_eq!(code, Some(0), "{}", world.logs());
    let json: Evidence = serde_json::from_slice(&json.expect("written")).expect("the view for people");
    let (_, cbor) = save("evidence.cbor", &[]);
    let cbor = Evidence::from_cbor(&cbor.expect("written")).expect("as it was sent");
    assert_eq!(
        (json.node.as_str(), &json.tpm.ak_certificate),
        ("demo-1", &cbor.tpm.ak_certificate)
    );
    assert_ne!(json.challenge, cbor.challenge, "each round has its own");
    let (_, forced) = save("evidence", &["--format", "cbor"]);
    assert!(Evidence::from_cbor(&forced.expect("written")).is_ok());

    world.install_policy(2, &"ff".repeat(32));
    world.attest_until(77);
    let (code, refused) = save("refused.json", &[]);
    assert_eq!(code, Some(77));
    let refused: Evidence = serde_json::from_slice(&refused.expect("written all the same")).expect("Evidence");
    assert_eq!(refused.tpm.pcrs, cbor.tpm.pcrs);
    let status = world.status();
    let findings = status["attestation"]["findings"].as_array().expect("findings").clone();
    assert!(findings.iter().any(|finding| finding["pcr"] == 4), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_an_earlier_round_is_not_kept_as_that_of_one_that_never_was() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    world.stop_verifier();
    let file = world.at("evidence.json");
    let output = world.rempart(&["attest", "--save", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("not sent any Evidence") && !file.exists(),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_doctor_tell_what_the_tpm_is_and_why_there_is_no_tee() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    let told = world.attestation();
    assert_eq!(
        (&told["tpm"]["bank"], &told["tpm"]["endorsement_key"]),
        (&"sha256".into(), &"rsa-2048".into())
    );
    assert_eq!(told["tpm"]["certified_endorsement_keys"][0], "rsa-2048");
    assert!(
        told["tee"]["why"]
            .as_str()
            .is_some_and(|why| why.contains("this test has no TEE")),
        "{told}"
    );
    assert_eq!(told["result"]["policy"], "test");
    let text = String::from_utf8(world.rempart(&["status"]).stdout).expect("text");
    assert!(
        text.contains("tee         none: ") && text.contains("EK rsa-2048 certified by its manufacturer"),
        "{text}"
    );
    let checks = world.rempart(&["doctor", "--json"]).stdout;
    let checks: serde_json::Value = serde_json::from_slice(&checks).expect("JSON");
    let state = |name: &str| {
        let list = checks["checks"].as_array().expect("a list");
        let check = list.iter().find(|check| check["name"] == name).expect(name);
        check["state"].as_str().expect("a word").to_owned()
    };
    for name in ["pcr bank", "ek certificate", "agent"] {
        assert_eq!(state(name), "ok", "{checks}");
    }
    // Whether this machine's clock follows a time server is not the test's.
    assert!(["ok", "degraded"].contains(&state("clock").as_str()), "{checks}");
    assert_eq!(state("tee"), "note", "{checks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_the_operator_requires_and_the_machine_has_not_keeps_it_locked() {
    let mut world = World::new().await;
    world.start_agent(&format!("{ALLOW}[tee]\nrequired = true\n"));
    let status = world.wait_until("a reason", std::time::Duration::from_secs(30), |status| {
        status["reason"] != ""
    });
    assert_eq!(status["state"], "attesting");
    assert!(
        status["reason"]
            .as_str()
            .is_some_and(|why| why.contains("tee.required") && why.contains("no TEE")),
        "{status}"
    );
    assert!(world.ask().is_err());
}
