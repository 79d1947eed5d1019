//! Names belong to TPMs: two that claim one, and one that nobody knows. Both claimants are honest TPMs of trusted manufacturers, so that
//! nothing but the name can be what is refused.

mod support;

use support::node::{attest, checks, enrol, evidence, refused};
use support::tpm::Tpm;
use support::verifier::{Verifier, policy};

#[test]
fn two_tpms_with_one_name_are_one_node_and_one_refusal() {
    let (first, second) = (Tpm::new(), Tpm::new());
    first.boot();
    second.boot();
    let mut verifier = Verifier::new(&[first.roots(), second.roots()].concat());
    verifier.run(&["node", "add", "demo-1"], b"");
    verifier.run(&["node", "add", "demo-2"], b"");
    let file = verifier.sign(&policy(&first.pcrs(), 3), "owner", "rempart-policy");
    verifier.run(&["policy", "install", &file], b"");
    verifier.start();
    let mut client = verifier.connect();
    let certificate = enrol(&mut client, &first, "demo-1").expect("the first");
    let taken = enrol(&mut client, &second, "demo-1").expect_err("the second").error;
    assert!(taken.contains("held by another TPM"), "{taken}");
    // Nor does it help to come with the first one's certificate.
    let round = evidence(&mut client, &second, "demo-1", &certificate, None);
    assert_eq!(checks(&refused(&mut client, &round)), [("signature", None)]);
    // Under a name of its own the second is welcome, and the first was not disturbed.
    let own = enrol(&mut client, &second, "demo-2").expect("another name");
    for (tpm, name, certificate) in [(&second, "demo-2", own), (&first, "demo-1", certificate)] {
        let round = evidence(&mut client, tpm, name, &certificate, None);
        attest(&mut client, &round).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
    }
}

#[test]
fn an_unknown_ek_enrols_under_no_name() {
    let (known, unknown) = (Tpm::new(), Tpm::new());
    let mut verifier = Verifier::new(&known.roots());
    verifier.run(&["node", "add", "demo-1"], b"");
    verifier.start();
    let mut client = verifier.connect();
    let refused = enrol(&mut client, &unknown, "demo-1").expect_err("its manufacturer is a stranger");
    assert!(
        refused.error.contains("EK certificate does not count"),
        "{}",
        refused.error
    );
    assert!(
        refused.error.contains("swtpm-localca"),
        "its issuer is named: {}",
        refused.error
    );
    enrol(&mut client, &known, "demo-1").expect("the name is still free");
}
