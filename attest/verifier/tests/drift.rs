//! Drift is held until an operator clears it, and only authentic Evidence is drift; a TPM that waits for approval; what the lists and
//! the history tell.

mod support;

use serde_json::Value;
use support::client::Client;
use support::node::{attest, bind, bind_boot, challenge, checks, enrol, evidence, ready, ready_with, refused};
use support::tpm::Tpm;
use support::verifier::{Setup, Verifier, policy};

fn lines(verifier: &Verifier, args: &[&str]) -> Vec<Value> {
    let text = verifier.run(args, b"");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

#[test]
fn drift_is_refused_until_an_operator_clears_it_and_everything_is_written_down() {
    let (mut verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    attest(&mut client, &good).expect("affirmed");

    // Whoever sends Evidence that is not authentic latches nobody.
    let mut forged = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    *forged.evidence.tpm.signature.0.last_mut().expect("byte") ^= 1;
    let refusal = attest(&mut client, &forged).expect_err("forged");
    assert!(!refusal.latched);
    let again = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    attest(&mut client, &again).expect("still affirmed");

    // The log of the same boot with an event missing is authentic (the TPM signs the registers) and wrong.
    let mut drifted = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    drifted.evidence.tpm.userspace_log.0.clear();
    let refusal = attest(&mut client, &drifted).expect_err("drifted");
    assert!(refusal.latched);
    assert_eq!(checks(&refusal.findings), [("event-log", Some(11))]);

    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let refusal = attest(&mut client, &good).expect_err("latched, although good again");
    assert!(refusal.latched);
    assert_eq!(checks(&refusal.findings), [("drift-latched", None)]);
    assert!(refusal.error.contains("node clear demo-1"), "{}", refusal.error);

    // It outlives the process.
    drop(client);
    verifier.stop();
    verifier.start();
    let mut client = verifier.connect();
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert_eq!(checks(&refused(&mut client, &good)), [("drift-latched", None)]);
    let node = &lines(&verifier, &["node", "list", "--json"])[0];
    assert_eq!(node["ek"]["identity"], "certified");
    assert!(
        node["latch"]["reason"].as_str().is_some_and(|r| r.contains("PCR 11")),
        "{node}"
    );
    assert!(verifier.run(&["node", "list"], b"").contains("LATCHED"));

    verifier.change(&["node", "clear", "demo-1"]);
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    attest(&mut client, &good).expect("affirmed again");
    assert_eq!(
        verifier.command(&["node", "clear", "demo-1"], b"").status.code(),
        Some(74)
    );

    let told: Vec<String> = lines(&verifier, &["history", "--node", "demo-1", "--json"])
        .iter()
        .map(|entry| {
            format!(
                "{} by {}",
                entry["what"].as_str().expect("what"),
                entry["who"].as_str().expect("who")
            )
        })
        .collect();
    let operator = told[0].strip_prefix("added by ").expect("added").to_owned();
    assert!(operator.starts_with("operator:"));
    assert_eq!(
        told[1..],
        [
            "enrolled by demo-1".into(),
            "latched by verifier".into(),
            format!("cleared by {operator}")
        ]
    );
}

#[test]
fn a_latched_nodes_result_opens_no_secrets_any_more() {
    let (verifier, tpm, certificate) = ready();
    verifier.run(&["secret", "set", "kv/a#b", "--role", "billing"], b"value");
    let mut client = verifier.connect();
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let ear = attest(&mut client, &good).expect("affirmed");
    let request = rempart_attest::api::SecretsRequest {
        ear,
        role: "billing".into(),
        names: vec!["kv/a#b".into()],
    };
    let ask = || {
        verifier
            .connect()
            .post::<rempart_attest::api::SecretsResponse>(rempart_attest::api::SECRETS, &request)
            .map(drop)
    };
    ask().expect("released");
    tpm.extend(12, &"ab".repeat(32));
    let drifted = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert!(attest(&mut client, &drifted).expect_err("drifted").latched);
    assert!(ask().expect_err("latched").error.contains("drifted"));
}

#[test]
fn the_first_tpm_waits_for_the_operators_word_where_that_is_asked() {
    let tpm = Tpm::new();
    tpm.boot();
    let mut verifier = Verifier::with(&Setup::default());
    let file = verifier.path("state/verifier.toml");
    let text = std::fs::read_to_string(&file).expect("configuration");
    std::fs::write(&file, text.replace("\"first-use\"", "\"approve\"")).expect("written");
    verifier.run(&["node", "add", "demo-1", "--role", "billing"], b"");
    let signed = verifier.sign(&policy(&tpm.pcrs(), 3), "owner", "rempart-policy");
    verifier.run(&["policy", "install", &signed], b"");
    verifier.start();
    let mut client = verifier.connect();
    let certificate = enrol(&mut client, &tpm, "demo-1").expect("enrols");
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert_eq!(checks(&refused(&mut client, &round)), [("enrolment-pending", None)]);

    let other = Tpm::new();
    assert!(
        enrol(&mut client, &other, "demo-1")
            .expect_err("taken")
            .error
            .contains("held by another TPM")
    );
    let ek = rempart_attest::tpm::EkPublic::parse(&tpm.ek_public())
        .expect("EK")
        .fingerprint()
        .to_string();
    let approve = |ek: &str| {
        verifier
            .command(&["node", "approve", "demo-1", "--ek", ek], b"")
            .status
            .code()
    };
    assert_eq!(
        approve(&"0".repeat(64)),
        Some(74),
        "another TPM than the one that waits"
    );
    assert_eq!(approve(&ek[..8]), Some(64), "too few digits to mean one");
    assert_eq!(approve(&ek[..16]), Some(0));
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let jwt = attest(&mut client, &round).expect("affirmed");
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(jwt.split('.').nth(1).expect("payload"))
        .expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!(claims["rempart.identity"], "approved");
    assert_eq!(
        (&claims["rempart.bank"], &claims["rempart.policy-counter"]),
        (&"sha256".into(), &3.into())
    );
    assert_eq!(
        lines(&verifier, &["node", "list", "--json"])[0]["ek"]["identity"],
        "approved"
    );
}

#[test]
fn a_removed_node_is_refused_at_once_and_its_name_is_free() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    verifier.change(&["node", "rm", "demo-1"]);
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let gone = attest(&mut client, &round).expect_err("removed").error;
    assert!(gone.contains("node demo-1 is not known"), "{gone}");
    verifier.run(&["node", "add", "demo-1"], b"");
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert_eq!(
        checks(&refused(&mut client, &round)),
        [("enrolment", None)],
        "its old certificate enrols nobody"
    );
}

#[test]
fn a_verifier_that_restarts_in_the_middle_takes_its_own_challenge_and_no_other() {
    let (mut verifier, tpm, certificate) = ready();
    let given = challenge(&mut verifier.connect());
    verifier.stop();
    verifier.start();
    let mut client = verifier.connect();
    let round = bind(&given, &client.exporter, &tpm, "demo-1", &certificate, None);
    attest(&mut client, &round).expect("the key of the challenges is kept");

    let given = challenge(&mut client);
    verifier.stop();
    std::fs::write(verifier.path("state/token.key"), [7; 32]).expect("rotated");
    verifier.start();
    let mut client = verifier.connect();
    let round = bind(&given, &client.exporter, &tpm, "demo-1", &certificate, None);
    let findings = refused(&mut client, &round);
    assert_eq!(checks(&findings), [("challenge", None)]);
    assert!(
        findings[0].what.contains("not made by this Verifier"),
        "{}",
        findings[0].what
    );
}

#[test]
fn a_clock_that_is_ten_minutes_off_is_named() {
    let (verifier, tpm, certificate) = ready();
    let master = std::fs::read(verifier.path("state/token.key")).expect("key");
    use aws_lc_rs::hmac;
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &master), b"rempart challenge v1");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("clock")
        .as_secs();
    // What a replica would have made whose clock is that far off.
    let at = |time: u64| {
        let mut client = verifier.connect();
        let mut given = challenge(&mut client);
        given.challenge = rempart_attest::ChallengeToken::issue(&key, time, [5; 16], &given.verifier);
        let round = bind(&given, &client.exporter, &tpm, "demo-1", &certificate, None);
        attest(&mut client, &round)
            .map(drop)
            .map_err(|refusal| refusal.findings)
    };
    at(now).expect("now");
    for (time, word) in [(now - 600, "s old"), (now + 600, "in the future")] {
        let findings = at(time).expect_err("refused");
        assert_eq!(checks(&findings), [("challenge", None)]);
        assert!(findings[0].what.contains(word), "{}", findings[0].what);
    }
}

#[test]
fn evidence_counts_on_its_own_connection_only() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert_eq!(
        checks(&refused(&mut verifier.connect(), &round)),
        [("binding", None)],
        "replayed on another connection"
    );
    // On the same connection and within the challenge's life it only gives the same key the same result again.
    attest(&mut client, &round).expect("first");
    attest(&mut client, &round).expect("sent twice by its own maker");
    // Relayed: the node talks to another TLS server, which passes everything on over a connection of its own.
    let mut relay = verifier.connect();
    let given = challenge(&mut relay);
    let to_relay = rempart_attest::Fixed([9; 32]);
    let relayed = bind(&given, &to_relay, &tpm, "demo-1", &certificate, None);
    assert_eq!(checks(&refused(&mut relay, &relayed)), [("binding", None)]);
}

#[test]
fn a_policy_needs_as_many_signers_as_the_owner_says() {
    let (verifier, tpm, _) = ready_with(Setup::default());
    let file = verifier.path("state/verifier.toml");
    let text = std::fs::read_to_string(&file).expect("configuration");
    std::fs::write(&file, text + "\n[policy]\nsignatures_required = 2\n").expect("written");
    let name = verifier.sign(&policy(&tpm.pcrs(), 4), "owner", "rempart-policy");
    let install = || verifier.command(&["policy", "install", &name], b"");
    assert_eq!(install().status.code(), Some(65), "one of two");
    let first = std::fs::read_to_string(verifier.path(&format!("{name}.sig"))).expect("signature");
    std::fs::write(verifier.path(&format!("{name}.sig2")), &first).expect("written");
    assert_eq!(install().status.code(), Some(65), "the same one twice");
    std::fs::remove_file(verifier.path(&format!("{name}.sig"))).expect("removed");
    let again = verifier.sign_again(&name, "second", "rempart-policy");
    std::fs::rename(
        verifier.path(&format!("{name}.sig")),
        verifier.path(&format!("{name}.sig2")),
    )
    .expect("moved");
    std::fs::write(verifier.path(&format!("{name}.sig")), &first).expect("written");
    assert_eq!(install().status.code(), Some(0), "two of two");
    std::fs::remove_file(verifier.path(&format!("{name}.sig2"))).expect("removed");
    std::fs::write(verifier.path(&format!("{name}.sig")), first + &again).expect("written");
    assert_eq!(install().status.code(), Some(0), "two in one file");
}

#[test]
fn a_node_that_waits_for_another_policy_is_told_when_there_is_one() {
    use rempart_attest::api::{WATCH, WatchRequest, WatchResponse};
    let (verifier, tpm, _) = ready_with(Setup {
        more: "\n[limits]\nconnections = 6\n".into(),
        ..Setup::default()
    });
    let ask = |policy: &str| {
        let request = WatchRequest { policy: policy.into() };
        verifier.connect().post::<WatchResponse>(WATCH, &request)
    };
    let known = ask("").expect("another one than none").policy;
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let told = ask(&known).expect("told").policy;
                    (told, std::time::Instant::now())
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(waiting.iter().all(|waits| !waits.is_finished()), "held");
        let full = ask(&known).expect_err("half of the connections may wait").error;
        assert!(full.contains("busy"), "{full}");
        let file = verifier.sign(&policy(&tpm.pcrs(), 4), "owner", "rempart-policy");
        verifier.run(&["policy", "install", &file], b"");
        let installed = std::time::Instant::now();
        for waits in waiting {
            let (told, when) = waits.join().expect("ends");
            assert_ne!(told, known);
            let late = when.saturating_duration_since(installed);
            assert!(late < std::time::Duration::from_secs(3), "{late:?}");
        }
    });
}

#[test]
fn a_boot_that_the_tpm_did_not_see_is_drift() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let round = |client: &mut Client, certificate: &str, boot: u8| {
        let given = challenge(client);
        let boot = rempart_attest::Fixed([boot; 16]);
        let round = bind_boot(&given, &client.exporter, &tpm, "demo-1", certificate, None, &boot);
        attest(client, &round).map(drop).map_err(|refusal| refusal.findings)
    };
    round(&mut client, &certificate, 7).expect("the first");
    round(&mut client, &certificate, 7).expect("the same boot");
    // Another kernel's boot id, and the same registers and reset count: kexec. A node without a lasting disk enrols anew at each boot,
    // which must not make the Verifier forget.
    let anew = enrol(&mut client, &tpm, "demo-1").expect("the same TPM under its own name");
    assert_ne!(anew, certificate);
    let findings = round(&mut client, &anew, 8).expect_err("no reset between");
    assert_eq!(checks(&findings), [("counters-continuity", None)]);
    let held = round(&mut client, &certificate, 8).expect_err("held");
    assert_eq!(checks(&held), [("drift-latched", None)]);
}

#[test]
fn a_policy_that_asks_for_more_than_first_use_refuses_without_a_latch() {
    let tpm = Tpm::new();
    tpm.boot();
    let mut verifier = Verifier::new(&[]);
    verifier.run(&["node", "add", "demo-1"], b"");
    let strict = rempart_attest::Policy {
        identity: vec![rempart_attest::policy::Identity::Certified],
        ..policy(&tpm.pcrs(), 3)
    };
    let signed = verifier.sign(&strict, "owner", "rempart-policy");
    verifier.run(&["policy", "install", &signed], b"");
    verifier.start();
    let mut client = verifier.connect();
    let certificate = enrol(&mut client, &tpm, "demo-1").expect("enrols");
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let refusal = attest(&mut client, &round).expect_err("first use");
    assert_eq!(checks(&refusal.findings), [("identity", None)]);
    assert!(!refusal.latched, "its machine did not drift");
}
