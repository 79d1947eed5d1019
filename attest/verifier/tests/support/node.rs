//! A node as the tests play it: enrols, makes Evidence for one connection, and sends it.

use rempart_attest::api::{self, *};
use rempart_attest::hpke::{EphemeralKey, Purpose};
use rempart_attest::{Bank, Binding, Blob, Evidence, Finding, Fixed, GuardClaim, TpmEvidence};

use super::client::Client;
use super::tpm::{Tpm, UEFI_LOG, USERSPACE_LOG};
use super::verifier::{Setup, Verifier, policy};

const BOOT: Fixed<16> = Fixed([7; 16]);

pub struct Round {
    pub evidence: Evidence,
    pub key: EphemeralKey,
}

pub fn enrol(client: &mut Client, tpm: &Tpm, node: &str) -> Result<String, Refusal> {
    let request = EnrolRequest {
        v: 1,
        node: node.into(),
        ek_public: Blob(tpm.ek_public()),
        ek_certificate: Some(Blob(tpm.ek_certificate())),
        ek_chain: vec![],
        ak_public: Blob(tpm.ak_public()),
    };
    let response: EnrolResponse = client.post(api::ENROL, &request)?;
    let secret = tpm.activate(&response.credential_blob.0, &response.encrypted_secret.0);
    let complete = EnrolCompleteRequest {
        token: response.token,
        secret: Blob(secret),
    };
    client
        .post::<EnrolCompleteResponse>(api::ENROL_COMPLETE, &complete)
        .map(|r| r.ak_certificate)
}

/// Evidence for this connection.
pub fn evidence(client: &mut Client, tpm: &Tpm, node: &str, ak_certificate: &str, selection: Option<&str>) -> Round {
    let given = challenge(client);
    bind(&given, &client.exporter, tpm, node, ak_certificate, selection)
}

pub fn challenge(client: &mut Client) -> ChallengeResponse {
    client.post(api::CHALLENGE, &ChallengeRequest {}).expect("challenge")
}

/// Evidence for a challenge and a connection's exporter.
pub fn bind(
    given: &ChallengeResponse,
    exporter: &Fixed<32>,
    tpm: &Tpm,
    node: &str,
    ak_certificate: &str,
    selection: Option<&str>,
) -> Round {
    bind_boot(given, exporter, tpm, node, ak_certificate, selection, &BOOT)
}

/// The same as if it was another boot.
pub fn bind_boot(
    given: &ChallengeResponse,
    exporter: &Fixed<32>,
    tpm: &Tpm,
    node: &str,
    ak_certificate: &str,
    selection: Option<&str>,
    boot_id: &Fixed<16>,
) -> Round {
    let key = EphemeralKey::generate().expect("key");
    let binding = Binding {
        challenge: given.challenge.as_bytes(),
        ephemeral: key.public(),
        verifier: &given.verifier,
        exporter,
        boot_id,
        audit_head: &Fixed::ZERO,
        ak: &rempart_attest::ak::key_id(ak_certificate).unwrap_or(Fixed::ZERO),
        claims: &guard().digest(),
    };
    let (quote, signature) = tpm.quote(&binding.qualifying_data().0, selection);
    let evidence = Evidence {
        v: rempart_attest::evidence::VERSION,
        node: node.into(),
        challenge: given.challenge.clone(),
        ephemeral: *key.public(),
        boot_id: *boot_id,
        audit_head: Fixed::ZERO,
        tpm: TpmEvidence {
            bank: Bank::Sha256,
            quote: Blob(quote),
            signature: Blob(signature),
            pcrs: tpm.pcrs(),
            ak_certificate: ak_certificate.into(),
            uefi_log: Blob(UEFI_LOG.to_vec()),
            userspace_log: Blob(USERSPACE_LOG.to_vec()),
            ima_log: Blob::default(),
            pcr_signatures: Blob::default(),
            os_release: Blob::default(),
            tls_key: None,
        },
        tee: None,
        systemd_report: Blob::default(),
        guard: guard(),
    };
    Round { evidence, key }
}

pub fn guard() -> GuardClaim {
    GuardClaim {
        enforcing: false,
        why: Some("no-bpf-lsm: a test".into()),
    }
}

pub fn attest(client: &mut Client, round: &Round) -> Result<String, Refusal> {
    let response: AttestResponse = client.send("POST", api::ATTEST, &round.evidence.to_cbor())?;
    let jwt = round
        .key
        .open(Purpose::Ear, round.evidence.challenge.as_bytes(), &response.into())
        .expect("opens");
    Ok(String::from_utf8(jwt.to_vec()).expect("a JWT is text"))
}

pub fn refused(client: &mut Client, round: &Round) -> Vec<Finding> {
    attest(client, round).expect_err("refused").findings
}

pub fn checks(findings: &[Finding]) -> Vec<(&str, Option<u8>)> {
    findings.iter().map(|f| (f.check.as_str(), f.pcr)).collect()
}

/// A Verifier that knows demo-1, a booted TPM, its AK certificate.
pub fn ready() -> (Verifier, Tpm, String) {
    ready_with(Setup::default())
}

/// The same with another configuration; the TPM's manufacturer is trusted.
pub fn ready_with(setup: Setup<'_>) -> (Verifier, Tpm, String) {
    let tpm = Tpm::new();
    tpm.boot();
    let roots = tpm.roots();
    let mut verifier = Verifier::with(&Setup {
        ek_roots: &roots,
        ..setup
    });
    verifier.run(&["node", "add", "demo-1", "--role", "billing"], b"");
    let file = verifier.sign(&policy(&tpm.pcrs(), 3), "owner", "rempart-policy");
    verifier.run(&["policy", "install", &file], b"");
    verifier.start();
    let certificate = enrol(&mut verifier.connect(), &tpm, "demo-1").expect("enrols");
    (verifier, tpm, certificate)
}
