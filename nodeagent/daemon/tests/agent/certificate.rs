//! Login at OpenBao by a certificate over a key that never leaves the TPM.

use std::sync::{Arc, Mutex};

use rempart_backend::{
    Identity, ResidentKey,
    https::{Connection, HttpsError, Trust},
};
use rempart_core::config::Origin;
use rempart_device::{Tpm, TpmOptions};
use rempart_harness::OpenBao;
use serde_json::json;

use crate::{
    ALLOW,
    world::{VALUE, World},
};

/// OpenBao with a certificate role `web`, which demands a certificate by `authority` with the role web in it.
fn server(world: &World, authority: &str) -> OpenBao {
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    bao.role("web", &["web"]).expect("policy");
    bao.bao(&["auth", "enable", "cert"], None).expect("cert auth");
    let role = json!({"certificate": authority, "allowed_uri_sans": "rempart:role:web", "token_policies": ["rempart-web"],
        "token_ttl": "40s"});
    bao.write("auth/cert/certs/web", &role).expect("role");
    bao
}

fn by_certificate(world: &World, bao: &OpenBao) -> String {
    let ca = world.pki.ca().display().to_string();
    format!(
        "[vault]\nkind = \"openbao\"\nurl = \"https://localhost:{}\"\nca = \"{ca}\"\nauth = \"cert\"\n",
        bao.port()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_opens_openbao_for_its_roles_and_for_no_other() {
    let mut world = World::new().await;
    let authority =
        std::fs::read_to_string(world.at("verifier/client-ca.pem")).expect("the Verifier's client authority");
    let bao = server(&world, &authority);
    let often = "[attest]\ninterval = \"10s\"\n";
    world.start_agent_with(&by_certificate(&world, &bao), &format!("{ALLOW}{often}"));
    world.wait_for_state("unlocked");
    let (area, items) = world.ask().expect("released");
    assert_eq!(&area.as_slice()[..items[0].len], VALUE.as_bytes());
    let calls = |path: &str| {
        let lines = bao.audit_log().expect("audit log");
        lines
            .lines()
            .filter(|line| line.contains("\"response\"") && line.contains(&format!("\"path\":\"{path}\"")))
            .count()
    };
    assert_eq!((calls("auth/cert/login"), calls("auth/jwt/login")), (1, 0));
    // The same key under the next certificate renews the token.
    world.wait_until("renewed", std::time::Duration::from_secs(60), |_| {
        calls("auth/token/renew-self") >= 2
    });
    world.systemd.start_again();
    world.ask().expect("by the renewed token");
    assert_eq!(calls("auth/cert/login"), 1, "{}", world.logs());

    // The server itself looks at the role in the certificate.
    let other =
        json!({"certificate": authority, "allowed_uri_sans": "rempart:role:db", "token_policies": ["rempart-web"]});
    bao.write("auth/cert/certs/web", &other).expect("role");
    world.stop_agent();
    world.start_agent_with(&by_certificate(&world, &bao), ALLOW);
    world.wait_for_state("unlocked");
    world.systemd.start_again();
    let refused = world.ask().expect_err("another role");
    assert!(refused.contains("denies the login under role web"), "{refused}");
    assert!(!world.logs().contains(VALUE));
}

/// A key in the TPM, or one that only claims to be.
struct Key {
    spki: Vec<u8>,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8; 32]) -> Vec<u8> + Send + Sync>;

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl ResidentKey for Key {
    fn spki(&self) -> &[u8] {
        &self.spki
    }
    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, String> {
        Ok((self.sign)(digest))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_certificate_is_of_no_use_without_the_tpm() {
    let world = World::new().await;
    let mut tpm = Tpm::open(&TpmOptions::new(world.tcti())).expect("the TPM");
    let spki = tpm.tls_key().expect("its TLS key").spki;
    let (authority, pem) = certificate_for(&spki);
    let bao = server(&world, &authority);
    let trust = Trust::pinned("the test's CA", &std::fs::read(world.pki.ca()).expect("CA")).expect("trust");

    let tpm = Mutex::new(tpm);
    let resident = Key {
        spki: spki.clone(),
        sign: Box::new(move |digest| tpm.lock().expect("no panic").sign_tls(digest).expect("signed")),
    };
    let identity = Identity::new(&pem, Arc::new(resident)).expect("its own certificate");
    let answer = log_in(&bao, &trust.presenting(&identity).expect("TLS"))
        .await
        .expect("works with the TPM");
    assert!(answer["auth"]["client_token"].is_string());

    // The thief has the certificate and a key of his own, and says that it is the certificate's.
    let thief = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING)
        .expect("key");
    let stolen = Key {
        spki,
        sign: Box::new(move |digest| {
            let random = aws_lc_rs::rand::SystemRandom::new();
            thief.sign(&random, digest).expect("signed").as_ref().to_vec()
        }),
    };
    let identity = Identity::new(&pem, Arc::new(stolen)).expect("nothing here can tell");
    let refused = log_in(&bao, &trust.presenting(&identity).expect("TLS"))
        .await
        .expect_err("no TPM");
    assert!(
        matches!(refused, HttpsError::Unreachable { .. }),
        "the handshake itself fails: {refused}"
    );

    // And without any certificate there is no login either.
    let refused = log_in(&bao, &trust).await.expect_err("no certificate");
    assert!(
        matches!(refused, HttpsError::Refused { status: 400..=499, .. }),
        "{refused}"
    );
}

async fn log_in(bao: &OpenBao, trust: &Trust) -> Result<serde_json::Value, HttpsError> {
    let host = "localhost".to_owned();
    let origin = Origin { host, port: bao.port() };
    let mut connection = Connection::open(&origin, trust).await?;
    connection.post("/v1/auth/cert/login", &json!({"name": "web"})).await
}

/// An authority, and its certificate for `spki` as the Verifier issues them, for the role web.
fn certificate_for(spki: &[u8]) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let own = authority.self_signed(&key).expect("signed").pem();
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "demo-1");
    leaf.subject_alt_names = vec![rcgen::SanType::URI("rempart:role:web".try_into().expect("ASCII"))];
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = rcgen::Issuer::new(authority, key);
    (own, leaf.signed_by(&Public(spki), &issuer).expect("signed").pem())
}

/// A P-256 key of the TPM, as rcgen wants it.
struct Public<'a>(&'a [u8]);

impl rcgen::PublicKeyData for Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        // The uncompressed point ends the structure.
        &self.0[self.0.len() - 65..]
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
