//! A TLS key that the AK certified gets a client certificate with the result; for AKs of every kind. The TPM is one in software here,
//! under the real Verifier's own AK authority, because tpm2-tools cannot put a challenge into TPM2_Certify.

mod support;

use rempart_attest::api::{self, AttestResponse, ChallengeRequest, ChallengeResponse, Refusal};
use rempart_attest::bytes::sha256;
use rempart_attest::certificate::pem_to_ders;
use rempart_attest::hpke::{EphemeralKey, Purpose};
use rempart_attest::testing::{AkKind, Authority, Node, ORDINARY, SoftTpm};
use rempart_attest::{Evidence, Fixed};
use serde_json::Value;
use support::node::checks;
use support::verifier::{ID, Setup, Verifier, policy};
use x509_parser::prelude::{FromDer, X509Certificate};

const EK: Fixed<32> = Fixed([0xe1; 32]);

fn verifier() -> (Verifier, Authority) {
    verifier_with("")
}

fn verifier_with(more: &str) -> (Verifier, Authority) {
    let mut verifier = Verifier::with(&Setup {
        more: more.into(),
        ..Setup::default()
    });
    verifier.run(
        &["node", "add", "demo-1", "--role", "billing", "--ek", &EK.to_string()],
        b"",
    );
    let pcrs: Vec<_> = ORDINARY.pcrs().values.into_iter().collect();
    let file = verifier.sign(&policy(&pcrs, 3), "owner", "rempart-policy");
    verifier.run(&["policy", "install", &file], b"");
    verifier.start();
    let read = |name: &str| std::fs::read_to_string(verifier.path(name)).expect("file");
    let der = pem_to_ders(read("state/ca.pem").as_bytes())
        .expect("certificate")
        .remove(0);
    let authority = Authority::of(der, &read("state/ca.key"), "Rempart AK authority");
    (verifier, authority)
}

/// One round; `change` may touch the Evidence when it is finished.
fn round(
    verifier: &Verifier,
    node: &mut Node,
    change: impl FnOnce(&mut Evidence),
) -> Result<(AttestResponse, Value), Refusal> {
    let mut client = verifier.connect();
    let given: ChallengeResponse = client.post(api::CHALLENGE, &ChallengeRequest {}).expect("challenge");
    let key = EphemeralKey::generate().expect("key");
    node.verifier = ID.into();
    node.exporter = client.exporter;
    let mut evidence = node.evidence(&ORDINARY);
    evidence.challenge = given.challenge;
    evidence.ephemeral = *key.public();
    node.quote(&mut evidence);
    node.certify(&mut evidence);
    change(&mut evidence);
    let response: AttestResponse = client.send("POST", api::ATTEST, &evidence.to_cbor())?;
    let jwt = key
        .open(Purpose::Ear, evidence.challenge.as_bytes(), &response.clone().into())
        .expect("opens");
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let jwt = std::str::from_utf8(&jwt).expect("text");
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(jwt.split('.').nth(1).expect("payload"))
        .expect("base64url");
    Ok((response, serde_json::from_slice(&claims).expect("JSON")))
}

#[test]
fn a_certified_tls_key_gets_a_certificate_whatever_kind_its_ak_is() {
    let (verifier, authority) = verifier();
    for kind in [
        AkKind::P256,
        AkKind::P384,
        AkKind::RsaSsa,
        AkKind::RsaPss,
        AkKind::RsaSsa3072,
    ] {
        let mut node = Node::enrolled(&authority, "demo-1", EK, SoftTpm::new(kind));
        let (response, claims) = round(&verifier, &mut node, |_| {}).expect("affirmed");
        let pem = response.certificate.expect("a certificate");
        let der = pem_to_ders(pem.as_bytes()).expect("PEM").remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
        let spki = certificate.public_key().raw;
        assert_eq!(claims["rempart.tls-key"], sha256(spki).to_string(), "{kind:?}");
        assert_eq!(certificate.subject().to_string(), "CN=demo-1");
        let authority = std::fs::read(verifier.path("state/client-ca.pem")).expect("authority");
        let authority = pem_to_ders(&authority).expect("PEM").remove(0);
        let (_, authority) = X509Certificate::from_der(&authority).expect("authority");
        certificate
            .verify_signature(Some(authority.public_key()))
            .expect("by the client authority");
        assert_eq!(claims["rempart.identity"], "listed");
    }
}

#[test]
fn a_key_that_the_ak_did_not_certify_in_this_round_gets_none_and_the_node_no_result() {
    let (verifier, authority) = verifier();
    let mut node = Node::enrolled(&authority, "demo-1", EK, SoftTpm::new(AkKind::P256));
    let mut other = Node::enrolled(&authority, "demo-1", EK, SoftTpm::new(AkKind::P256));
    let refused = |change: &mut dyn FnMut(&mut Evidence), node: &mut Node| {
        round(&verifier, node, |evidence| change(evidence)).expect_err("refused")
    };
    let foreign = refused(
        &mut |evidence| {
            other.verifier = ID.into();
            other.certify(evidence);
        },
        &mut node,
    );
    assert!(
        checks(&foreign.findings)
            .iter()
            .any(|(check, _)| *check == "tls-key-signature"),
        "{foreign:?}"
    );
    assert!(!foreign.latched);
    let mut kept = None;
    round(&verifier, &mut node, |evidence| kept.clone_from(&evidence.tpm.tls_key)).expect("affirmed");
    let stale = refused(&mut |evidence| evidence.tpm.tls_key.clone_from(&kept), &mut node);
    assert_eq!(checks(&stale.findings), [("tls-key-binding", None)], "the last round's");
    let (response, claims) =
        round(&verifier, &mut node, |evidence| evidence.tpm.tls_key = None).expect("affirmed without");
    assert_eq!((response.certificate, claims.get("rempart.tls-key")), (None, None));
}

#[test]
fn a_verifier_that_could_not_end_logins_by_certificate_issues_none() {
    let more = "\n[vault]\nurl = \"https://localhost:1\"\nca = \"../tls.pem\"\nrole = \"rempart-verifier\"\n";
    let (verifier, authority) = verifier_with(more);
    let mut node = Node::enrolled(&authority, "demo-1", EK, SoftTpm::new(AkKind::P256));
    let refusal = round(&verifier, &mut node, |_| {}).expect_err("a certificate is asked for");
    assert_eq!(checks(&refusal.findings), [("client-certificate", None)]);
    assert!(
        !refusal.latched && refusal.error.contains("vault.cert_mount"),
        "{refusal:?}"
    );
}
