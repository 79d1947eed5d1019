//! Against the real OpenBao: results are taken by discovery alone, and a node that drifts loses its tokens within seconds, also when
//! the vault was away at first. No node can have another's token revoked.

mod support;

use std::time::{Duration, Instant};

use rempart_attest::api::{ACCESSOR, AccessorRequest, AccessorResponse, Refusal};
use rempart_harness::{OpenBao, Pki, free_port};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use support::client::Client;
use support::node::{attest, enrol, evidence, ready_with};
use support::tpm::Tpm;
use support::verifier::{Setup, Verifier};

/// What the issue promises; measured and printed.
const DEAD_WITHIN: Duration = Duration::from_secs(5);

struct Scene {
    bao: OpenBao,
    pki: Pki,
    verifier: Verifier,
    tpm: Tpm,
    certificate: String,
}

/// A Verifier that may end logins at a vault which knows it by its discovery document only.
fn scene() -> Scene {
    scene_with("")
}

/// The same with more lines of the Verifier's `[vault]`.
fn scene_with(lines: &str) -> Scene {
    let pki = Pki::open().expect("certificates");
    let bao = OpenBao::start(&pki).expect("OpenBao");
    let port = free_port().expect("port");
    let id = format!("https://localhost:{port}");
    let more = format!(
        "\n[vault]\nurl = \"https://localhost:{}\"\nca = \"{}\"\nauth_mount = \"jwt\"\nrole = \"rempart-verifier\"\n{lines}",
        bao.port(),
        pki.ca().display()
    );
    let (verifier, tpm, certificate) = ready_with(Setup {
        id: id.clone(),
        port,
        more,
        ..Setup::default()
    });
    let ca = std::fs::read_to_string(verifier.path("tls.pem")).expect("certificate");
    // Only the address of the Verifier; keys, algorithms and issuer come by discovery.
    bao.write(
        "auth/jwt/config",
        &json!({ "oidc_discovery_url": id, "oidc_discovery_ca_pem": ca, "bound_issuer": id }),
    )
    .expect("configured");
    bao.role("billing", &["billing"]).expect("role");
    bao.role("web", &["web"]).expect("role");
    bao.put_secret("billing", &[("db_password", "x1")]).expect("secret");
    let rules = "path \"identity/lookup/entity\" { capabilities = [\"update\"] }\n\
        path \"identity/entity/id/*\" { capabilities = [\"update\"] allowed_parameters = { \"disabled\" = [] } }\n\
        path \"auth/token/lookup-accessor\" { capabilities = [\"update\"] }\n\
        path \"auth/token/revoke-accessor\" { capabilities = [\"update\"] }\n\
        path \"sys/auth/jwt\" { capabilities = [\"read\", \"sudo\"] }\n\
        path \"sys/auth/cert\" { capabilities = [\"read\", \"sudo\"] }\n";
    bao.write("sys/policies/acl/rempart-verifier", &json!({ "policy": rules }))
        .expect("policy");
    let role = json!({
        "role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "bound_subject": "rempart:verifier",
        "token_policies": ["rempart-verifier"], "token_ttl": "10m",
    });
    bao.write("auth/jwt/role/rempart-verifier", &role).expect("role");
    Scene {
        bao,
        pki,
        verifier,
        tpm,
        certificate,
    }
}

impl Scene {
    fn result(&self) -> String {
        let mut client = self.verifier.connect();
        let round = evidence(&mut client, &self.tpm, "demo-1", &self.certificate, None);
        attest(&mut client, &round).expect("affirmed")
    }

    /// Authentic Evidence whose log lacks an event.
    fn drift(&self) {
        let mut client = self.verifier.connect();
        let mut round = evidence(&mut client, &self.tpm, "demo-1", &self.certificate, None);
        round.evidence.tpm.userspace_log.0.clear();
        assert!(attest(&mut client, &round).expect_err("drifted").latched);
    }

    fn http(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
        let ca = CertificateDer::from_pem_file(self.pki.ca()).expect("CA");
        let mut client = Client::connect(self.bao.port(), &ca, &[&rustls::version::TLS13]).expect("OpenBao");
        let length = body.len();
        client.begin(&format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: localhost\r\nx-vault-token: {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let (status, answer) = client.answer().expect("an answer");
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// Token and accessor, or the vault's words.
    fn login(&self, role: &str, jwt: &str) -> Result<(String, String), String> {
        let (status, answer) = self.http(
            "POST",
            "auth/jwt/login",
            "",
            &json!({ "role": role, "jwt": jwt }).to_string(),
        );
        let part = |name: &str| answer["auth"][name].as_str().map(str::to_owned);
        match (status, part("client_token"), part("accessor")) {
            (200, Some(token), Some(accessor)) => Ok((token, accessor)),
            _ => Err(format!("{status} {answer}")),
        }
    }

    fn reads(&self, token: &str) -> bool {
        self.http("GET", "kv/data/billing", token, "").0 == 200
    }

    fn post_accessor(&self, ear: &str, accessor: &str) -> Result<AccessorResponse, Refusal> {
        let request = AccessorRequest {
            ear: ear.into(),
            accessor: accessor.into(),
            role: "billing".into(),
        };
        self.verifier.connect().post(ACCESSOR, &request)
    }

    fn dies(&self, token: &str, since: Instant, what: &str) {
        while self.reads(token) {
            assert!(
                since.elapsed() < DEAD_WITHIN,
                "{what}: still good after {:?}",
                since.elapsed()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{what}: the token was dead {:?} after", since.elapsed());
    }
}

#[test]
fn openbao_takes_a_result_by_discovery_for_its_roles_audience_and_time_only() {
    let scene = scene();
    let jwt = scene.result();
    let (token, _) = scene.login("billing", &jwt).expect("logs in");
    assert!(scene.reads(&token));
    let refused = scene.login("web", &jwt).expect_err("the node has not that role");
    assert!(refused.contains("claim \\\"roles\\\" does not match"), "{refused}");
    let (head, signature) = jwt.rsplit_once('.').expect("three parts");
    assert!(
        scene
            .login(
                "billing",
                &format!("{head}.{}", signature.chars().rev().collect::<String>())
            )
            .is_err()
    );

    let mut role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["someone-else"], "bound_claims": { "roles": "billing" },
        "token_policies": ["rempart-billing"],
    });
    scene.bao.write("auth/jwt/role/other", &role).expect("role");
    let refused = scene.login("other", &jwt).expect_err("another audience");
    assert!(refused.contains("audience"), "{refused}");
    // Claims of the appraisal can be bound too: here the identity level, and the status of the machine.
    role["bound_audiences"] = json!(["openbao"]);
    role["bound_claims"] = json!({
        "/rempart.identity": "certified", "/submods/machine/ear.status": "affirming", "rempart.bank": "sha256",
    });
    scene.bao.write("auth/jwt/role/bound", &role).expect("role");
    scene.login("bound", &jwt).expect("all bound claims hold");
    role["bound_claims"]["/rempart.identity"] = json!("listed");
    scene.bao.write("auth/jwt/role/bound", &role).expect("role");
    assert!(scene.login("bound", &jwt).is_err(), "a claim that does not hold");
    // The Verifier's own role opens to no result.
    assert!(scene.login("rempart-verifier", &jwt).is_err());

    // A result that was good is not any more: made by the same key, two minutes and the vault's leeway ago.
    let key = std::fs::read(scene.verifier.path("state/signing.key")).expect("key");
    let old = aged(&jwt, &key, 300);
    let refused = scene.login("billing", &old).expect_err("expired");
    assert!(refused.contains("expired"), "{refused}");
    scene
        .login("billing", &aged(&jwt, &key, 0))
        .expect("the same with its own times");
}

/// The same claims, earlier, signed by the same key.
fn aged(jwt: &str, pkcs8: &[u8], seconds: u64) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let mut parts = jwt.split('.');
    let kid: Value = serde_json::from_slice(
        &BASE64_URL_SAFE_NO_PAD
            .decode(parts.next().expect("header"))
            .expect("base64url"),
    )
    .expect("JSON");
    let mut claims: Value = serde_json::from_slice(
        &BASE64_URL_SAFE_NO_PAD
            .decode(parts.next().expect("payload"))
            .expect("base64url"),
    )
    .expect("JSON");
    for name in ["iat", "nbf", "exp"] {
        claims[name] = json!(claims[name].as_u64().expect("time") - seconds);
    }
    rempart_attest::ear::Signer::new(pkcs8, kid["kid"].as_str().expect("kid"))
        .sign(&claims)
        .expect("signed")
}

#[test]
fn a_drifted_nodes_token_is_dead_within_five_seconds_and_an_operator_lets_it_in_again() {
    let scene = scene();
    let jwt = scene.result();
    let (token, accessor) = scene.login("billing", &jwt).expect("logs in");
    let (silent, _) = scene
        .login("billing", &jwt)
        .expect("a token that the node does not name");
    scene.post_accessor(&jwt, &accessor).expect("taken");
    assert!(scene.reads(&token) && scene.reads(&silent));

    let began = Instant::now();
    scene.drift();
    scene.dies(&token, began, "revocation by accessor");
    scene.dies(&silent, began, "revocation by entity");
    let refused = scene
        .login("billing", &jwt)
        .expect_err("the result is still valid, the node is not");
    assert!(refused.starts_with("403"), "{refused}");
    let revoked = || {
        let body = json!({ "accessor": accessor }).to_string();
        scene
            .http("POST", "auth/token/lookup-accessor", scene.bao.root_token(), &body)
            .0
            != 200
    };
    wait("the token is revoked, not only refused", revoked);

    scene.verifier.run(&["node", "clear", "demo-1"], b"");
    wait("cleared", || scene.login("billing", &jwt).is_ok());
    assert!(!scene.reads(&token), "a revoked token stays dead");

    // A name that is removed is disabled too, and enabled when it is added again.
    scene.verifier.run(&["node", "rm", "demo-1"], b"");
    wait("removed", || scene.login("billing", &jwt).is_err());
    scene.verifier.run(&["node", "add", "demo-1"], b"");
    wait("added again", || scene.login("billing", &jwt).is_ok());
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEAD_WITHIN, "{what}: not after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{what}: after {:?}", began.elapsed());
}

#[test]
fn what_a_vault_that_is_away_must_be_told_waits_also_over_a_restart() {
    let mut scene = scene();
    let jwt = scene.result();
    let (token, accessor) = scene.login("billing", &jwt).expect("logs in");
    scene.post_accessor(&jwt, &accessor).expect("taken");
    scene.bao.stop_process();
    scene.drift();
    let began = Instant::now();
    while !scene
        .verifier
        .log()
        .iter()
        .any(|line| line.contains("logins of drifted nodes are not stopped yet"))
    {
        assert!(began.elapsed() < Duration::from_secs(10), "the operator is not told");
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.verifier.stop();
    scene.verifier.start();
    scene.bao.run_process().expect("runs");
    scene.bao.unseal().expect("unsealed");
    scene.dies(&token, Instant::now(), "the vault is back");
}

#[test]
fn a_node_cannot_have_another_nodes_token_revoked() {
    let scene = scene();
    let jwt = scene.result();
    let (token, accessor) = scene.login("billing", &jwt).expect("logs in");
    let stranger = Tpm::new();
    stranger.boot();
    let ek = rempart_attest::tpm::EkPublic::parse(&stranger.ek_public())
        .expect("EK")
        .fingerprint()
        .to_string();
    scene
        .verifier
        .run(&["node", "add", "demo-2", "--role", "billing", "--ek", &ek], b"");
    let mut client = scene.verifier.connect();
    let certificate = enrol(&mut client, &stranger, "demo-2").expect("enrols");
    let round = evidence(&mut client, &stranger, "demo-2", &certificate, None);
    let foreign = attest(&mut client, &round).expect("affirmed");
    let refused = scene
        .post_accessor(&foreign, &accessor)
        .expect_err("never logged in itself")
        .error;
    assert!(refused.contains("not taken"), "{refused}");
    scene.login("billing", &foreign).expect("logs in");
    let refused = scene.post_accessor(&foreign, &accessor).expect_err("not its own").error;
    assert!(refused.contains("not taken"), "{refused}");
    let unknown = scene
        .post_accessor(&foreign, "doesnotexist")
        .expect_err("nobody's")
        .error;
    assert!(unknown.contains("not taken"), "{unknown}");
    let forged = scene.post_accessor(&(jwt[..jwt.len() - 4].to_owned() + "AAAA"), &accessor);
    assert!(forged.is_err(), "a forged result");
    let mut round = evidence(&mut client, &stranger, "demo-2", &certificate, None);
    round.evidence.tpm.userspace_log.0.clear();
    assert!(attest(&mut client, &round).expect_err("drifted").latched);
    wait("the stranger is out", || scene.login("billing", &foreign).is_err());
    assert!(scene.reads(&token), "and nobody else");
}

/// The token of a login with a certificate that the Verifier's client authority made for the node.
fn login_by_certificate(scene: &Scene) -> Result<String, String> {
    let at = |name: &str| scene.verifier.path(name).display().to_string();
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().expect("runs");
        assert!(output.status.success(), "{output:?}");
    };
    if !scene.verifier.path("c.pem").exists() {
        let extensions = "extendedKeyUsage = clientAuth\nkeyUsage = critical, digitalSignature\nsubjectAltName = URI:rempart:role:billing\n";
        std::fs::write(at("c.ext"), extensions).expect("written");
        let (key, request) = (at("c.key"), at("c.csr"));
        let curve = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=demo-1",
        ];
        run(
            "openssl",
            &[&["req", "-new", "-keyout", &key, "-out", &request], &curve[..]].concat(),
        );
        let (ca, ca_key, ext, out) = (
            at("state/client-ca.pem"),
            at("state/client-ca.key"),
            at("c.ext"),
            at("c.pem"),
        );
        let by = ["-CA", &ca, "-CAkey", &ca_key, "-days", "1", "-extfile", &ext];
        run(
            "openssl",
            &[&["x509", "-req", "-in", &request, "-out", &out], &by[..]].concat(),
        );
    }
    let output = std::process::Command::new("curl")
        .args(["--silent", "--cacert"])
        .arg(scene.pki.ca())
        .args([
            "--cert",
            &at("c.pem"),
            "--key",
            &at("c.key"),
            "--json",
            r#"{"name":"billing"}"#,
        ])
        .arg(format!("https://localhost:{}/v1/auth/cert/login", scene.bao.port()))
        .output()
        .expect("curl");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let token = answer["auth"]["client_token"].as_str().map(str::to_owned);
    token.ok_or_else(|| answer.to_string())
}

#[test]
fn a_login_by_certificate_ends_with_the_drift_too() {
    let scene = scene_with("cert_mount = \"cert\"\n");
    scene.bao.bao(&["auth", "enable", "cert"], None).expect("enabled");
    let authority = std::fs::read_to_string(scene.verifier.path("state/client-ca.pem")).expect("authority");
    let role = json!({
        "certificate": authority, "allowed_uri_sans": ["rempart:role:billing"], "token_policies": ["rempart-billing"],
    });
    scene.bao.write("auth/cert/certs/billing", &role).expect("role");
    // No login by a result ever: the mount for certificates alone knows the node.
    let token = login_by_certificate(&scene).expect("logs in");
    assert!(scene.reads(&token));
    let began = Instant::now();
    scene.drift();
    scene.dies(&token, began, "revocation of a login by certificate");
    let refused = login_by_certificate(&scene).expect_err("the certificate is still valid, the node is not");
    assert!(
        refused.contains("disabled") || refused.contains("permission denied"),
        "{refused}"
    );
}
