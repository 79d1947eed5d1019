//! A node with a real (software) TPM and a real boot's logs against the real Verifier: the way to a result and to secrets, and
//! every refusal on it.

mod support;

use rempart_attest::api::{self, *};
use rempart_attest::ear::Ear;
use rempart_attest::hpke::{EphemeralKey, Purpose};
use rempart_attest::secrets::SecretBundle;
use rempart_attest::{Blob, Evidence, Fixed};
use support::client::Client;
use support::node::{Round, attest, checks, enrol, evidence, ready, refused};
use support::tpm::Tpm;
use support::verifier::{ID, Verifier, policy};

#[test]
fn a_node_enrols_attests_and_gets_the_secrets_of_its_role_only() {
    let (verifier, tpm, certificate) = ready();
    verifier.run(
        &["secret", "set", "kv/billing#db_password", "--role", "billing"],
        b"s3cret\xff",
    );
    verifier.run(&["secret", "set", "kv/web#key", "--role", "web"], b"other");
    let mut client = verifier.connect();
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let jwt = attest(&mut client, &round).expect("affirmed");

    let jwks: serde_json::Value = client.send("GET", api::JWKS, b"").expect("keys");
    let openid: serde_json::Value = client.send("GET", api::OPENID, b"").expect("document");
    assert_eq!(openid["issuer"], ID);
    let claims = claims(&jwt, &jwks);
    assert_eq!(
        (claims.sub.as_str(), claims.roles.clone()),
        ("demo-1", vec!["billing".to_owned()])
    );
    assert_eq!(claims.submods.machine.status, "affirming");
    assert_eq!(claims.confirmed_key().as_ref(), Ok(round.key.public()));

    let ask = |client: &mut Client, role: &str, name: &str| {
        let request = SecretsRequest {
            ear: jwt.clone(),
            role: role.into(),
            names: vec![name.into()],
        };
        client.post::<SecretsResponse>(api::SECRETS, &request)
    };
    let sealed = ask(&mut client, "billing", "kv/billing#db_password").expect("released");
    let plain = round
        .key
        .open(Purpose::Secrets, claims.jti.as_bytes(), &sealed.into())
        .expect("opens");
    let bundle = SecretBundle::from_cbor(&plain).expect("bundle");
    assert_eq!(bundle.0["kv/billing#db_password"].as_slice(), b"s3cret\xff");

    let error = |answer: Result<SecretsResponse, Refusal>| answer.expect_err("refused").error;
    assert!(error(ask(&mut client, "web", "kv/web#key")).contains("has not the role web"));
    assert!(error(ask(&mut client, "billing", "kv/web#key")).contains("for role billing"));
    let forged = SecretsRequest {
        ear: jwt[..jwt.len() - 2].to_owned() + "AA",
        role: "billing".into(),
        names: vec![],
    };
    assert!(error(client.post(api::SECRETS, &forged)).contains("attestation result"));
    verifier.run(&["node", "add", "demo-1"], b"");
    assert!(
        error(ask(&mut client, "billing", "kv/billing#db_password")).contains("role"),
        "a role taken away counts at once"
    );
}

fn claims(jwt: &str, jwks: &serde_json::Value) -> Ear {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let part = |name: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(jwks["keys"][0][name].as_str().expect("text"))
            .expect("base64url")
    };
    let point = [vec![4], part("x"), part("y")].concat();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("clock")
        .as_secs();
    assert!(
        Ear::verify(jwt, &point, ID, "somebody", now).is_err(),
        "another audience"
    );
    assert!(Ear::verify(jwt, &point, ID, "openbao", now + 121).is_err(), "expired");
    Ear::verify(jwt, &point, ID, "openbao", now).expect("verifies by the published key")
}

#[test]
fn evidence_of_another_connection_boot_key_or_challenge_is_refused() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    assert_eq!(
        checks(&refused(&mut verifier.connect(), &round)),
        [("binding", None)],
        "relayed over another connection"
    );

    let other_key = EphemeralKey::generate().expect("key");
    let stolen = Round {
        evidence: Evidence {
            ephemeral: *other_key.public(),
            ..round.evidence.clone()
        },
        key: other_key,
    };
    assert_eq!(checks(&refused(&mut client, &stolen)), [("binding", None)]);
    let mut foreign = round.evidence.challenge.as_bytes().to_vec();
    foreign[3] ^= 1;
    let foreign = Evidence {
        challenge: rempart_attest::ChallengeToken::from_bytes(foreign),
        ..round.evidence.clone()
    };
    let foreign = Round {
        evidence: foreign,
        key: EphemeralKey::generate().expect("key"),
    };
    assert_eq!(
        checks(&refused(&mut client, &foreign)),
        [("challenge", None), ("binding", None)],
        "all failures together"
    );
    assert!(
        attest(&mut client, &round).is_ok(),
        "unchanged, on its own connection, it is affirmed"
    );
}

#[test]
fn changed_registers_selections_signatures_and_logs_are_refused() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let with = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = good.evidence.clone();
        change(&mut evidence);
        Round {
            evidence,
            key: EphemeralKey::generate().expect("key"),
        }
    };
    let found = |client: &mut Client, change: &dyn Fn(&mut Evidence)| {
        let refusal = attest(client, &with(change)).expect_err("refused");
        if refusal.latched {
            verifier.change(&["node", "clear", "demo-1"]);
        }
        let findings = refusal.findings.into_iter();
        findings.map(|f| (f.check, f.pcr)).collect::<Vec<_>>()
    };
    let is = |check: &str, pcr| (check.to_owned(), pcr);
    assert_eq!(
        found(&mut client, &|e| e.tpm.pcrs[11].1 = Fixed([1; 32]).into()),
        [is("pcr-digest", None)]
    );
    assert_eq!(found(&mut client, &|e| e.tpm.pcrs.truncate(14)), [is("pcr-list", None)]);
    assert_eq!(
        found(&mut client, &|e| *e.tpm.signature.0.last_mut().expect("byte") ^= 1),
        [is("signature", None)]
    );
    assert_eq!(
        found(&mut client, &|e| e.tpm.quote.0[0] ^= 1),
        [is("signature", None), is("quote", None)]
    );
    assert_eq!(
        found(&mut client, &|e| e.tpm.userspace_log.0.clear()),
        [is("event-log", Some(11))]
    );
    assert_eq!(
        found(&mut client, &|e| e.tpm.uefi_log.0.clear()),
        [is("uefi-log", None)]
    );
    assert_eq!(
        found(&mut client, &|e| e.tpm.ak_certificate.clear()),
        [is("ak-certificate", None)]
    );
    let fewer = evidence(
        &mut client,
        &tpm,
        "demo-1",
        &certificate,
        Some("sha256:0,1,2,3,4,5,6,7"),
    );
    assert_eq!(checks(&refused(&mut client, &fewer)), [("quote-selection", None)]);
}

#[test]
fn a_machine_that_changed_after_boot_is_refused_with_every_register_named() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    tpm.extend(12, &"ab".repeat(32));
    tpm.extend(9, &"cd".repeat(32));
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let findings = refused(&mut client, &round);
    assert_eq!(
        checks(&findings),
        [
            ("event-log", Some(9)),
            ("event-log", Some(12)),
            ("pcr", Some(9)),
            ("pcr", Some(12))
        ]
    );
    assert!(
        findings
            .iter()
            .all(|f| f.expected.is_some() && f.found.is_some() && !f.remedy.is_empty())
    );
}

#[test]
fn a_name_belongs_to_the_first_tpm_and_an_unknown_name_to_nobody() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let unknown = enrol(&mut client, &tpm, "demo-2").expect_err("unknown").error;
    assert!(unknown.contains("node add demo-2"), "{unknown}");
    // The second TPM has another manufacturer, so first its chain is refused, and with a Verifier that trusts it, the name.
    let other = Tpm::new();
    let stranger = enrol(&mut client, &other, "demo-1")
        .expect_err("another manufacturer")
        .error;
    assert!(stranger.contains("EK certificate does not count"), "{stranger}");
    verifier.run(&["node", "add", "demo-2"], b"");
    let second = evidence(&mut client, &tpm, "demo-2", &certificate, None);
    assert_eq!(refused(&mut client, &second)[0].check, "enrolment");
    enrol(&mut client, &tpm, "demo-2").expect("enrols");
    let borrowed = evidence(&mut client, &tpm, "demo-2", &certificate, None);
    assert_eq!(
        checks(&refused(&mut client, &borrowed)),
        [("ak-certificate", None)],
        "demo-1's certificate"
    );
}

#[test]
fn without_manufacturers_the_first_tpm_is_believed_and_keeps_the_name() {
    let mut verifier = Verifier::new(&[]);
    verifier.run(&["node", "add", "demo-1"], b"");
    verifier.start();
    let (first, second) = (Tpm::new(), Tpm::new());
    let mut client = verifier.connect();
    enrol(&mut client, &first, "demo-1").expect("first use");
    let taken = enrol(&mut client, &second, "demo-1").expect_err("taken").error;
    assert!(taken.contains("held by another TPM"), "{taken}");
    enrol(&mut client, &first, "demo-1").expect("again");
}

#[test]
fn a_tpm_that_the_operator_listed_needs_no_certificate_and_keeps_others_out() {
    let (tpm, certified) = (Tpm::new(), Tpm::new());
    let mut verifier = Verifier::new(&certified.roots());
    let fingerprint = rempart_attest::tpm::EkPublic::parse(&tpm.ek_public())
        .expect("EK")
        .fingerprint()
        .to_string();
    verifier.run(&["node", "add", "demo-1", "--ek", &fingerprint], b"");
    verifier.start();
    let mut client = verifier.connect();
    let taken = enrol(&mut client, &certified, "demo-1")
        .expect_err("another TPM, although certified")
        .error;
    assert!(taken.contains("held by another TPM"), "{taken}");
    enrol(&mut client, &tpm, "demo-1").expect("the listed one");
}

#[test]
fn an_enrolment_token_or_secret_that_is_not_the_right_one_is_refused() {
    let (verifier, tpm, _) = ready();
    let mut client = verifier.connect();
    let request = EnrolRequest {
        v: 1,
        node: "demo-1".into(),
        ek_public: Blob(tpm.ek_public()),
        ek_certificate: None,
        ek_chain: vec![],
        ak_public: Blob(tpm.ak_public()),
    };
    let none = client
        .post::<EnrolResponse>(api::ENROL, &request)
        .expect_err("no certificate")
        .error;
    assert!(none.contains("no EK certificate"), "{none}");
    let request = EnrolRequest {
        ek_certificate: Some(Blob(tpm.ek_certificate())),
        ..request
    };
    let given: EnrolResponse = client.post(api::ENROL, &request).expect("credential");
    let complete = |client: &mut Client, token: Blob, secret: Vec<u8>| {
        client
            .post::<EnrolCompleteResponse>(
                api::ENROL_COMPLETE,
                &EnrolCompleteRequest {
                    token,
                    secret: Blob(secret),
                },
            )
            .map(drop)
    };
    let guessed = complete(&mut client, given.token.clone(), vec![0; 32])
        .expect_err("guessed")
        .error;
    assert!(guessed.contains("did not activate"), "{guessed}");
    let mut changed = given.token.0.clone();
    changed[5] ^= 1;
    let changed = complete(&mut client, Blob(changed), vec![0; 32])
        .expect_err("changed")
        .error;
    assert!(changed.contains("not one of this Verifier"), "{changed}");
}

#[test]
fn a_policy_counts_only_with_a_signature_for_policies_by_an_allowed_signer_and_never_goes_back() {
    let (verifier, tpm, certificate) = ready();
    let pcrs = tpm.pcrs();
    let install = |counter, key: &str, namespace: &str| {
        let file = verifier.sign(&policy(&pcrs, counter), key, namespace);
        let output = verifier.command(&["policy", "install", &file], b"");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(
        install(4, "stranger", "rempart-policy")
            .1
            .contains("not an allowed signer")
    );
    assert!(install(4, "owner", "file").1.contains("was made for \"file\""));
    assert!(install(2, "owner", "rempart-policy").1.contains("counter 2"));
    let file = verifier.sign(&policy(&pcrs, 5), "owner", "rempart-policy");
    let text = std::fs::read_to_string(verifier.path(&file))
        .expect("policy")
        .replace("recorded boot", "changed");
    std::fs::write(verifier.path(&file), text).expect("written");
    let changed = verifier.command(&["policy", "install", &file], b"");
    assert_eq!(changed.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&changed.stderr).contains("changed after owner@example signed it"));

    // A new policy counts at once in a running server.
    let mut strict = policy(&pcrs, 6);
    strict.require_guard = true;
    let file = verifier.sign(&strict, "owner", "rempart-policy");
    verifier.change(&["policy", "install", &file]);
    let mut client = verifier.connect();
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let refusal = refused(&mut client, &round);
    assert_eq!(checks(&refusal), [("guard", None)]);
    // The degraded mode's name reaches the operator.
    assert_eq!(refusal[0].found.as_deref(), Some("no-bpf-lsm: a test"));
}

#[test]
fn a_policy_in_the_database_counts_only_with_its_signature() {
    let (verifier, tpm, certificate) = ready();
    let mut client = verifier.connect();
    let good = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    attest(&mut client, &good).expect("affirmed");

    // Somebody who may write the database, and is no signer: a policy of his own, under the owner's signature over another one, which
    // the history tells to the running server.
    let mut loose = policy(&tpm.pcrs(), 9);
    loose.name = "anything goes".into();
    let loose = loose.to_toml();
    let database = rusqlite::Connection::open(verifier.path("state/registry.sqlite")).expect("the file");
    let insert = "INSERT INTO policy (counter, text, signatures, signers, since) \
         SELECT 9, ?1, signatures, signers, since FROM policy ORDER BY id DESC LIMIT 1";
    database.execute(insert, [loose.as_bytes()]).expect("he may write");
    let told = "INSERT INTO history (at, who, what, node, detail) SELECT at, who, what, node, detail FROM history \
         WHERE what = 'policy' LIMIT 1";
    assert_eq!(database.execute(told, []).expect("he may write"), 1);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
        match attest(&mut client, &round) {
            Ok(_) => assert!(std::time::Instant::now() < until, "affirmed by an unsigned policy"),
            Err(refusal) => {
                assert!(
                    !refusal.latched && refusal.findings.is_empty(),
                    "nobody drifted: {refusal:?}"
                );
                break;
            }
        }
    }
    // The refusal may be here before the line is.
    let told = |log: &str| log.contains("does not count") && log.contains("was changed after");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !told(&verifier.log().join("\n")) {
        assert!(std::time::Instant::now() < until, "{}", verifier.log().join("\n"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
