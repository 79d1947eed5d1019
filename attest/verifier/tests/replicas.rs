//! Two replicas behind one name with one registry in a real PostgreSQL: what crosses from one to the other and what must not, and how
//! soon one knows what the other did.

mod support;

use std::time::{Duration, Instant};

use rempart_attest::Blob;
use rempart_attest::api::{self, *};
use rempart_harness::{Pki, Postgres};
use support::node::{attest, bind, challenge, checks, enrol, evidence, ready_with, refused};
use support::tpm::Tpm;
use support::verifier::{Setup, Verifier};

/// A removed or latched node is refused everywhere within this time.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

struct Scene {
    server: Postgres,
    left: Verifier,
    right: Verifier,
    tpm: Tpm,
    certificate: String,
    _password: tempfile::NamedTempFile,
}

fn scene() -> Scene {
    let pki = Pki::open().expect("certificates");
    let server = Postgres::start(&pki).expect("PostgreSQL");
    server.login("registry", "it's secret").expect("login");
    server.sql("create database registry owner registry").expect("database");
    let password = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(password.path(), "it's secret\n").expect("written");
    let more = format!(
        "\n[registry]\nkind = \"postgres\"\nurl = \"postgresql://registry@localhost:{}/registry\"\nca = \"{}\"\npassword_file = \"{}\"\n",
        server.port(),
        pki.ca().display(),
        password.path().display()
    );
    let (left, tpm, certificate) = ready_with(Setup {
        more,
        ..Setup::default()
    });
    let mut right = left.replica();
    right.start();
    Scene {
        server,
        left,
        right,
        tpm,
        certificate,
        _password: password,
    }
}

#[test]
fn an_enrolment_may_cross_from_one_replica_to_the_other_and_evidence_may_not() {
    let scene = scene();
    let (mut left, mut right) = (scene.left.connect(), scene.right.connect());
    let round = evidence(&mut right, &scene.tpm, "demo-1", &scene.certificate, None);
    attest(&mut right, &round).expect("the AK certificate of one is good at the other");
    // The challenge of one is good at the other, as long as the Evidence is for the connection that it comes on.
    let given = challenge(&mut left);
    let round = bind(&given, &right.exporter, &scene.tpm, "demo-1", &scene.certificate, None);
    attest(&mut right, &round).expect("the replicas have one key for challenges");
    let round = evidence(&mut left, &scene.tpm, "demo-1", &scene.certificate, None);
    assert_eq!(
        checks(&refused(&mut right, &round)),
        [("binding", None)],
        "made for another connection"
    );

    scene.left.change(&["node", "add", "demo-2"]);
    let other = Tpm::new();
    let request = EnrolRequest {
        v: 1,
        node: "demo-2".into(),
        ek_public: Blob(scene.tpm.ek_public()),
        ek_certificate: Some(Blob(scene.tpm.ek_certificate())),
        ek_chain: vec![],
        ak_public: Blob(scene.tpm.ak_public()),
    };
    let begun: EnrolResponse = left.post(api::ENROL, &request).expect("begun at one");
    let complete = EnrolCompleteRequest {
        secret: Blob(scene.tpm.activate(&begun.credential_blob.0, &begun.encrypted_secret.0)),
        token: begun.token,
    };
    let done: EnrolCompleteResponse = right
        .post(api::ENROL_COMPLETE, &complete)
        .expect("completed at the other");
    let round = evidence(&mut left, &scene.tpm, "demo-2", &done.ak_certificate, None);
    attest(&mut left, &round).expect("known to both");
    assert!(enrol(&mut left, &other, "demo-2").is_err(), "the name is held");
}

#[test]
fn what_one_replica_did_the_other_knows_within_seconds() {
    let scene = scene();
    let mut right = scene.right.connect();
    let mut ask = || {
        let round = evidence(&mut right, &scene.tpm, "demo-1", &scene.certificate, None);
        attest(&mut right, &round)
    };
    ask().expect("affirmed, and kept in the other's memory");
    let mut left = scene.left.connect();
    let mut drifted = evidence(&mut left, &scene.tpm, "demo-1", &scene.certificate, None);
    drifted.evidence.tpm.userspace_log.0.clear();
    assert!(attest(&mut left, &drifted).expect_err("drifted").latched);
    let mut within = |what: &str, holds: &dyn Fn(&Result<String, Refusal>) -> bool| {
        let began = Instant::now();
        while !holds(&ask()) {
            assert!(
                began.elapsed() < KNOWN_WITHIN,
                "{what}: not after {:?}",
                began.elapsed()
            );
        }
        println!("{what}: after {:?}", began.elapsed());
    };
    within("latched", &|answer| {
        answer.as_ref().is_err_and(|refusal| refusal.latched)
    });
    scene.left.run(&["node", "clear", "demo-1"], b"");
    within("cleared", &|answer| answer.is_ok());
    scene.left.run(&["node", "rm", "demo-1"], b"");
    within("removed", &|answer| {
        answer
            .as_ref()
            .is_err_and(|refusal| refusal.error.contains("not known"))
    });
}

#[test]
fn a_registry_that_is_away_affirms_nobody_and_refuses_nobody_for_good() {
    let Scene {
        server,
        left,
        right,
        tpm,
        certificate,
        ..
    } = scene();
    drop(right);
    let mut client = left.connect();
    drop(server);
    std::thread::sleep(Duration::from_secs(4));
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let (status, answer) = client.raw("POST", api::ATTEST, &round.evidence.to_cbor());
    assert_eq!(status, 503, "{}", String::from_utf8_lossy(&answer));
}
