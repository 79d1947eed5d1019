//! What travels between node and Verifier: requests and answers, challenge, Evidence, result, sealed messages.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::OnceLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rempart_attest::api::*;
use rempart_attest::ear::{Ear, Signer};
use rempart_attest::evidence::{KeyCertification, TeeEvidence};
use rempart_attest::hpke::{self, EphemeralKey, Purpose, Sealed};
use rempart_attest::pcr::Bank;
use rempart_attest::secrets::SecretBundle;
use rempart_attest::tee::{TeeKind, TeeProvider};
use rempart_attest::{Blob, ChallengeToken, Evidence, Finding, Fixed, GuardClaim, TpmEvidence};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "evidence",
        from: "the envelope, by the node",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: evidence,
        seeds: envelopes,
    },
    Target {
        name: "challenge",
        from: "the challenge that a node sends back",
        max_len: 600,
        memory: Memory::SERDE,
        runs: 20_000,
        run: challenge,
        seeds: challenges,
    },
    Target {
        name: "requests",
        from: "requests to the Verifier and its answers (JSON)",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: requests,
        seeds: messages,
    },
    Target {
        name: "result",
        from: "the result, by whoever asks for secrets",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 4_000,
        run: result,
        seeds: results,
    },
    Target {
        name: "sealed",
        from: "sealed messages, by whoever sits between",
        max_len: 2048,
        memory: Memory::OURS,
        runs: 3_000,
        run: sealed,
        seeds: || vec![seal(b"result"), vec![1; 80]],
    },
    Target {
        name: "secrets",
        from: "the bundle inside of a sealed message",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: secrets,
        seeds: bundles,
    },
];

const NOW: u64 = 1_800_000_000;
const VERIFIER: &str = "https://verifier.test";

/// What is read is written so that it is read as the same, in both forms.
fn evidence(data: &[u8]) {
    let read = if data.first() == Some(&b'{') {
        serde_json::from_slice::<Evidence>(data).ok()
    } else {
        Evidence::from_cbor(data).ok()
    };
    let Some(evidence) = read else { return };
    let json: Evidence = serde_json::from_str(&evidence.to_json()).expect("the view for people is read");
    assert_eq!(json, evidence);
    // JSON is not judged by sizes and version; what passes as CBOR has one form.
    if let Ok(again) = Evidence::from_cbor(&evidence.to_cbor()) {
        assert_eq!(again, evidence);
        assert_eq!(again.to_cbor(), evidence.to_cbor());
    } else {
        assert_eq!(
            data.first(),
            Some(&b'{'),
            "what was read as CBOR is refused when written again"
        );
    }
    let _claimed = evidence.claimed_pcrs();
}

fn envelopes() -> Vec<Vec<u8>> {
    let whole = Evidence {
        v: rempart_attest::evidence::VERSION,
        node: "demo-1".into(),
        challenge: ChallengeToken::from_bytes(vec![1, 2, 3]),
        ephemeral: Fixed([2; 32]),
        boot_id: Fixed([3; 16]),
        audit_head: Fixed::ZERO,
        tpm: TpmEvidence {
            bank: Bank::Sha256,
            quote: Blob(vec![4; 20]),
            signature: Blob(vec![5; 8]),
            pcrs: vec![(0, Fixed([6; 32]).into()), (1, Fixed([7; 32]).into())],
            ak_certificate: "PEM".into(),
            uefi_log: Blob(vec![8; 300]),
            userspace_log: Blob(vec![9; 30]),
            ima_log: Blob(vec![10; 30]),
            pcr_signatures: Blob(vec![11; 30]),
            os_release: Blob(vec![12; 30]),
            tls_key: Some(KeyCertification {
                public: Blob(vec![13]),
                attest: Blob(vec![14]),
                signature: Blob(vec![15]),
            }),
        },
        tee: Some(TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::ConfigfsTsm,
            report: Blob(vec![16; 40]),
            certificates: Blob(vec![17; 40]),
            runtime_data: Blob::default(),
        }),
        systemd_report: Blob(vec![18]),
        guard: GuardClaim {
            enforcing: false,
            why: Some("no BPF LSM".into()),
        },
    };
    let mut least = whole.clone();
    (least.tee, least.tpm.tls_key, least.guard.why) = (None, None, None);
    least.tpm.bank = Bank::Sha384;
    least.tpm.pcrs.clear();
    [whole, least]
        .into_iter()
        .flat_map(|evidence| [evidence.to_cbor(), serde_json::to_vec(&evidence).unwrap_or_default()])
        .collect()
}

fn challenge_key() -> &'static hmac::Key {
    static KEY: OnceLock<hmac::Key> = OnceLock::new();
    KEY.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]))
}

/// As it came, and with the Verifier's own MAC added, so that the body is reached; only a challenge for this Verifier and this
/// time may pass.
fn challenge(data: &[u8]) {
    assert!(
        judge(data.to_vec()).is_err() || data == genuine().as_bytes(),
        "a forged challenge counts"
    );
    let mac = hmac::sign(challenge_key(), data);
    if judge([data, mac.as_ref()].concat()).is_ok() {
        assert!(
            data.windows(VERIFIER.len()).any(|window| window == VERIFIER.as_bytes()),
            "a challenge for another"
        );
    }
    if let Ok(token) = serde_json::from_slice::<ChallengeToken>(data) {
        let again = serde_json::to_vec(&token).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<ChallengeToken>(&again).ok(), Some(token));
    }
}

fn judge(bytes: Vec<u8>) -> Result<(), rempart_attest::challenge::ChallengeError> {
    ChallengeToken::from_bytes(bytes).verify(challenge_key(), NOW, VERIFIER)
}

fn genuine() -> ChallengeToken {
    ChallengeToken::issue(challenge_key(), NOW, [5; 16], VERIFIER)
}

fn challenges() -> Vec<Vec<u8>> {
    let whole = genuine().as_bytes().to_vec();
    let body = whole[..whole.len() - 32].to_vec();
    vec![serde_json::to_vec(&genuine()).unwrap_or_default(), body, whole]
}

fn requests(data: &[u8]) {
    message::<ChallengeResponse>(data);
    message::<EnrolRequest>(data);
    message::<EnrolResponse>(data);
    message::<EnrolCompleteRequest>(data);
    message::<EnrolCompleteResponse>(data);
    message::<AttestResponse>(data);
    message::<AccessorRequest>(data);
    message::<WatchRequest>(data);
    message::<WatchResponse>(data);
    message::<SecretsRequest>(data);
    message::<SecretsResponse>(data);
    message::<Refusal>(data);
}

fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(data) else {
        return;
    };
    let again = serde_json::to_vec(&message).expect("messages have text keys");
    assert_eq!(
        serde_json::from_slice::<T>(&again).expect("what was written is read"),
        message
    );
}

fn messages() -> Vec<Vec<u8>> {
    let enrol = EnrolRequest {
        v: 1,
        node: "demo-1".into(),
        ek_public: Blob(vec![1; 20]),
        ek_certificate: Some(Blob(vec![2; 20])),
        ek_chain: vec![Blob(vec![4; 20])],
        ak_public: Blob(vec![3; 20]),
    };
    let refusal = Refusal {
        error: "refused".into(),
        latched: true,
        findings: vec![
            Finding::new("pcr", "demo-1", "PCR 4 differs", "boot the accepted image")
                .pcr(4)
                .expected("a")
                .found("b")
                .event("c"),
        ],
    };
    let secrets = SecretsRequest {
        ear: "a.b.c".into(),
        role: "billing".into(),
        names: vec!["kv/billing#key".into()],
    };
    [
        serde_json::to_vec(&enrol),
        serde_json::to_vec(&refusal),
        serde_json::to_vec(&secrets),
        serde_json::to_vec(&AttestResponse {
            result: Blob(vec![1]),
            encapsulated: Blob(vec![2]),
            certificate: Some("PEM".into()),
        }),
        serde_json::to_vec(&AccessorRequest {
            ear: "a.b.c".into(),
            accessor: "x".into(),
            role: "web".into(),
        }),
        serde_json::to_vec(&WatchRequest { policy: "11".into() }),
        serde_json::to_vec(&SecretsResponse {
            sealed: Blob(vec![1]),
            encapsulated: Blob(vec![2]),
        }),
        serde_json::to_vec(&EnrolResponse {
            credential_blob: Blob(vec![1]),
            encrypted_secret: Blob(vec![2]),
            token: Blob(vec![3]),
        }),
        serde_json::to_vec(&EnrolCompleteRequest {
            token: Blob(vec![1]),
            secret: Blob(vec![2]),
        }),
        serde_json::to_vec(&EnrolCompleteResponse {
            ak_certificate: "PEM".into(),
        }),
        serde_json::to_vec(&ChallengeResponse {
            challenge: genuine(),
            verifier: VERIFIER.into(),
        }),
    ]
    .into_iter()
    .map(|json| json.expect("messages have text keys"))
    .collect()
}

fn signing_key() -> &'static (EcdsaKeyPair, Vec<u8>) {
    static KEY: OnceLock<(EcdsaKeyPair, Vec<u8>)> = OnceLock::new();
    KEY.get_or_init(|| {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("the same key");
        (key, pkcs8.as_ref().to_vec())
    })
}

/// As a token, and as the claims of a token that the Verifier signed: the claims of one that counts are its own.
fn result(data: &[u8]) {
    let (key, pkcs8) = signing_key();
    let verify = |jwt: &str| Ear::verify(jwt, key.public_key().as_ref(), VERIFIER, AUDIENCE_VERIFIER, NOW);
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(verify(text).is_err(), "a forged result counts");
    }
    let (header, claims) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (HEADER, data),
    };
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header),
        BASE64_URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signs");
    let jwt = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()));
    let Ok(ear) = verify(&jwt) else { return };
    assert_eq!(ear.iss, VERIFIER);
    assert!(
        ear.nbf <= NOW && NOW < ear.exp && ear.aud.iter().any(|aud| aud == AUDIENCE_VERIFIER),
        "{ear:?}"
    );
    let _key = ear.confirmed_key();
    let again = Signer::new(pkcs8, "kid").sign(&ear).expect("signs");
    assert_eq!(verify(&again), Ok(ear));
}

const HEADER: &[u8] = br#"{"typ":"JWT","alg":"ES256","kid":"k"}"#;

fn results() -> Vec<Vec<u8>> {
    let claims = serde_json::json!({
        "iss": VERIFIER, "sub": "demo-1", "aud": [AUDIENCE_OPENBAO, AUDIENCE_VERIFIER],
        "iat": NOW, "nbf": NOW - 5, "exp": NOW + 120, "jti": "00",
        "cnf": {"jwk": {"kty": "OKP", "crv": "X25519", "x": BASE64_URL_SAFE_NO_PAD.encode([9; 32])}},
        "eat_profile": rempart_attest::ear::PROFILE, "ear.verifier-id": {"developer": "rempart", "build": "1"},
        "submods": {"machine": {"ear.status": "affirming", "ear.appraisal-policy-id": "p",
            "ear.trustworthiness-vector": {"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2}}},
        "rempart.identity": "certified", "rempart.image": "i", "rempart.bank": "sha256", "rempart.policy-counter": 3,
        "rempart.tls-key": "33".repeat(32), "rempart.roles": ["billing"], "roles": ["billing"],
        "policy_digest": "11".repeat(32), "evidence_digest": "22".repeat(32),
    });
    let claims = claims.to_string().into_bytes();
    let with_header = [HEADER, &[0], &claims].concat();
    vec![claims, with_header]
}

fn receiver() -> &'static EphemeralKey {
    static KEY: OnceLock<EphemeralKey> = OnceLock::new();
    KEY.get_or_init(|| EphemeralKey::generate().expect("a key"))
}

fn seal(plain: &[u8]) -> Vec<u8> {
    let sealed = hpke::seal(Purpose::Ear, receiver().public(), b"aad", plain).expect("seals");
    [sealed.encapsulated.0, sealed.sealed.0].concat()
}

/// Encapsulated key and ciphertext: nothing opens that was not sealed; what was sealed opens to the same.
fn sealed(data: &[u8]) {
    let (key, message) = data.split_at(data.len().min(32));
    let message = Sealed {
        sealed: message.into(),
        encapsulated: key.into(),
    };
    assert!(
        receiver().open(Purpose::Secrets, b"aad", &message).is_err(),
        "a forged message opens"
    );
    let sealed = hpke::seal(Purpose::Ear, receiver().public(), b"aad", data).expect("seals");
    let opened = receiver().open(Purpose::Ear, b"aad", &sealed).expect("opens");
    assert_eq!(opened.as_slice(), data);
}

fn secrets(data: &[u8]) {
    let Ok(bundle) = SecretBundle::from_cbor(data) else {
        return;
    };
    let again = SecretBundle::from_cbor(&bundle.to_cbor()).expect("what was written is read");
    assert_eq!(again.0, bundle.0);
}

fn bundles() -> Vec<Vec<u8>> {
    let mut bundle = SecretBundle(BTreeMap::new());
    bundle.0.insert("kv/web#key".into(), vec![0, 255, 7].into());
    let one = bundle.to_cbor().to_vec();
    bundle.0.insert("kv/web#empty".into(), vec![].into());
    vec![one, bundle.to_cbor().to_vec()]
}
