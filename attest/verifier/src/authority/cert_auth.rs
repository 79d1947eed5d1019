//! The real OpenBao's cert auth takes a client certificate of the shape that we issue: for the role in its URI names, by the client
//! authority, with its own key, and nothing else. The key lies in software here; how it lies in a TPM is the node's side.

use std::path::Path;
use std::process::Command;

use rcgen::KeyPair;
use rempart_harness::{OpenBao, Pki, repository, run};
use serde_json::{Value, json};

use super::*;

struct Scene {
    bao: OpenBao,
    pki: Pki,
    dir: tempfile::TempDir,
    clients: Authority,
}

fn scene() -> Scene {
    let pki = Pki::open().expect("certificates");
    let bao = OpenBao::start(&pki).expect("OpenBao");
    let dir = tempfile::tempdir().expect("dir");
    Authority::create(dir.path(), Kind::Client).expect("made");
    Authority::create(dir.path(), Kind::Ak).expect("made");
    bao.bao(&["auth", "enable", "cert"], None).expect("enabled");
    let authority = std::fs::read_to_string(dir.path().join("client-ca.pem")).expect("authority");
    for role in ["billing", "web"] {
        let settings = json!({
            "certificate": authority, "allowed_uri_sans": [format!("rempart:role:{role}")], "token_policies": ["default"],
        });
        bao.write(&format!("auth/cert/certs/{role}"), &settings).expect("role");
    }
    Scene {
        clients: Authority::load(dir.path(), Kind::Client).expect("loads"),
        bao,
        pki,
        dir,
    }
}

impl Scene {
    /// The token's display name and entity alias, or the vault's words.
    fn login(&self, role: &str, certificate: &str, key: &KeyPair) -> Result<Value, String> {
        let file = |name: &str, text: &str| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let (certificate, key) = (file("c.pem", certificate), file("c.key", &key.serialize_pem()));
        let program = run(&mut Command::new(repository().join("tests/servers/openbao/bao"))).expect("OpenBao");
        let option = |name: &str, path: &Path| format!("-{name}={}", path.display());
        let output = Command::new(program)
            .args(["login", "-method=cert", "-no-store", "-format=json"])
            .args([option("client-cert", &certificate), option("client-key", &key)])
            .arg(format!("name={role}"))
            .env("BAO_ADDR", format!("https://127.0.0.1:{}", self.bao.port()))
            .env("BAO_CACERT", self.pki.ca())
            .output()
            .expect("runs");
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

#[test]
fn openbao_takes_it_for_its_role_authority_and_key_only() {
    let scene = scene();
    let key = KeyPair::generate().expect("key");
    let public = PublicKey::from_spki_der(&key.subject_public_key_info()).expect("P-256");
    let good = scene
        .clients
        .certify_client("demo-1", &["billing".into()], &public)
        .expect("certified");
    let answer = scene.login("billing", &good, &key).expect("logs in");
    assert_eq!(answer["auth"]["metadata"]["common_name"], "demo-1");
    assert!(scene.login("web", &good, &key).is_err(), "not its role");

    let other = KeyPair::generate().expect("key");
    assert!(scene.login("billing", &good, &other).is_err(), "another key");
    let foreign = tempfile::tempdir().expect("dir");
    Authority::create(foreign.path(), Kind::Client).expect("made");
    let foreign = Authority::load(foreign.path(), Kind::Client).expect("loads");
    let forged = foreign
        .certify_client("demo-1", &["billing".into()], &public)
        .expect("certified");
    assert!(
        scene.login("billing", &forged, &key).is_err(),
        "another authority of the same name"
    );
    // The AK authority's certificates are no client certificates, whatever is written into the vault.
    let ak = Authority::load(scene.dir.path(), Kind::Ak).expect("loads");
    let certified = ak.certify_ak("demo-1", &Fixed([7; 32]), &public).expect("certified");
    let authority = std::fs::read_to_string(scene.dir.path().join("ca.pem")).expect("authority");
    scene
        .bao
        .write(
            "auth/cert/certs/mistake",
            &json!({ "certificate": authority, "token_policies": ["default"] }),
        )
        .expect("role");
    assert!(scene.login("mistake", &certified, &key).is_err(), "an AK certificate");
}
