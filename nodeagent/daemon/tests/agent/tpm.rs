//! What an operator can choose of TPM and TEE, by the real agent: a key that stays in the TPM, a manufacturer's chain in NV, and the
//! privilege level of a report.

use std::time::Duration;

use rempart_attest::certificate::pem_to_ders;

use crate::{ALLOW, world::World};

const HANDLE: &str = "0x81010002";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_put_at_a_handle_attests_and_another_one_is_left_there() {
    let mut world = World::new().await;
    world.tpm_words = "ak = \"template:rsa-2048\"\n".into();
    for again in [false, true] {
        let kept = world.rempartd(&["--persist-ak", HANDLE]);
        let line = String::from_utf8_lossy(&kept.stdout).into_owned();
        assert!(kept.status.success(), "again: {again}: {kept:?}");
        assert!(line.contains(&format!("tpm.ak = \"persistent:{HANDLE}\"")), "{line}");
    }
    // Another template's key does not take its place, nor does one that is persistent already.
    let words = std::mem::replace(&mut world.tpm_words, "ak = \"template:ecc-p256\"\n".into());
    let occupied = world.rempartd(&["--persist-ak", HANDLE]);
    assert_eq!(occupied.status.code(), Some(78), "{occupied:?}");
    assert!(
        String::from_utf8_lossy(&occupied.stderr).contains("another object at 0x81010002"),
        "{occupied:?}"
    );
    world.tpm_words = format!("ak = \"persistent:{HANDLE}\"\n");
    assert!(!world.rempartd(&["--persist-ak", "0x81010003"]).status.success());
    for foreign in ["0x81800000", "0x80000001", "81010002"] {
        assert!(
            !world.rempartd(&["--persist-ak", foreign]).status.success(),
            "{foreign}"
        );
    }
    let handles = world.tools().run("tpm2_getcap", &["handles-persistent"]);
    assert!(
        handles.contains("0x81010002") && !handles.contains("0x81010003"),
        "{handles}"
    );

    world.start_agent(ALLOW);
    let status = world.wait_for_state("unlocked");
    assert_eq!(
        status["attestation"]["tpm"]["attestation_key"],
        format!("persistent:{HANDLE}")
    );
    world.ask().expect("released");
    let evidence = world.at("kept.json").display().to_string();
    assert!(world.rempart(&["attest", "--save", &evidence]).status.success());
    world.stop_agent();
    // It is the template's own key, under the certificate of an enrolment of its own.
    assert_eq!(world.logs().matches("is enrolled at").count(), 1);
    world.tpm_words = words;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(world.logs().matches("is enrolled at").count(), 2);
    world.stop_agent();

    // Without the key the node says so, and does not make another one in its place.
    world.tools().run("tpm2_evictcontrol", &["-C", "o", "-c", HANDLE]);
    world.tpm_words = format!("ak = \"persistent:{HANDLE}\"\n");
    world.start_agent(ALLOW);
    let status = world.wait_until("a reason", Duration::from_secs(30), |status| status["reason"] != "");
    assert_ne!(status["state"], "unlocked");
    assert!(
        status["reason"]
            .as_str()
            .is_some_and(|why| why.contains("no key at 0x81010002")),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manufacturers_chain_in_the_tpm_leads_the_verifier_to_the_root_that_it_trusts() {
    let mut world = World::new().await;
    world.trust_the_root_only();
    world.start_agent(ALLOW);
    let status = world.wait_until("a reason", Duration::from_secs(30), |status| status["reason"] != "");
    assert_ne!(status["state"], "unlocked");
    let why = status["reason"].as_str().unwrap_or_default();
    assert!(
        why.contains("EK certificate does not count") && why.contains("CN=swtpm-localca"),
        "{why}"
    );
    world.stop_agent();

    // EK certificate, intermediate, root: the manufacturer leaves the intermediate in NV.
    let [issuer, _] = world.manufacturer();
    let issuer = pem_to_ders(&std::fs::read(issuer).expect("PEM"))
        .expect("a certificate")
        .remove(0);
    let tools = world.tools();
    tools.write("chain", &issuer);
    let (index, size) = ("0x01c00100", issuer.len().to_string());
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate";
    tools.run("tpm2_nvdefine", &[index, "-C", "p", "-s", &size, "-a", attributes]);
    tools.run("tpm2_nvwrite", &[index, "-C", "p", "-i", "chain"]);
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    world.ask().expect("released");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_privilege_level_of_the_configuration_is_the_one_that_is_asked_for() {
    let mut world = World::new().await;
    for (words, level) in [("", None), ("[tee]\nvmpl = 2\n", Some(2))] {
        world.start_agent(&format!("{ALLOW}{words}"));
        world.wait_for_state("unlocked");
        world.stop_agent();
        let asked: Vec<_> = world
            .asked
            .lock()
            .expect("no panic")
            .drain(..)
            .map(|request| request.vmpl)
            .collect();
        assert!(
            !asked.is_empty() && asked.iter().all(|vmpl| *vmpl == level),
            "{words}: {asked:?}"
        );
    }
}
