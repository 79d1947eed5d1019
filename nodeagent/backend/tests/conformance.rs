//! Every kind of engine and login at a real OpenBao, by the trait that the agent uses. What all of them must do alike is one function.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by them")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{rand::SystemRandom, signature};
use base64::{Engine, prelude::*};
use rempart_attest::hpke::EphemeralKey;
use rempart_backend::{
    Backend, BackendError, Fetched, Grant, GrantSource, Later, Login, OpenBao, VerifierStore, https::Trust,
};
use rempart_core::{config::Origin, reference::Reference};
use rempart_harness::{OpenBao as Server, Pki, Postgres, Process, free_port, program, run, wait_for_port};
use serde_json::json;

const ROLE: &str = "app";
/// Where OpenBao, which keeps text, has 1 MiB of bytes.
const BIG: &str = "a?encoding=base64#big";

/// A server that trusts a key of the test's, as it trusts a Verifier's.
struct World {
    pki: Pki,
    server: Server,
    key: signature::EcdsaKeyPair,
    /// PEM.
    public: String,
}

/// Results of that key.
struct Results<'a>(&'a World, Vec<&'static str>);

impl GrantSource for Results<'_> {
    fn fresh(&self) -> Later<'_, Result<Arc<Grant>, String>> {
        Box::pin(async { Ok(Arc::new(self.0.grant(&self.1))) })
    }
}

impl World {
    fn start() -> Self {
        let pki = Pki::open().expect("certificates");
        let server = Server::start(&pki).expect("OpenBao");
        let pair = rcgen::KeyPair::generate().expect("a key");
        let key =
            signature::EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der());
        let world = Self {
            pki,
            server,
            key: key.expect("the same key"),
            public: pair.public_key_pem(),
        };
        world.server.write("auth/jwt/config", &world.trust()).expect("trust");
        world
    }

    fn trust(&self) -> serde_json::Value {
        json!({"jwt_validation_pubkeys": [self.public], "jwt_supported_algs": ["ES256"]})
    }

    fn role(ttl: &str, most: &str) -> serde_json::Value {
        json!({
            "role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub", "bound_claims": {"roles": ROLE},
            "token_policies": ["conformance"], "token_ttl": ttl, "token_max_ttl": most,
        })
    }

    /// The role may do `rules`.
    fn allow(&self, rules: &str) {
        let policy = json!({ "policy": rules });
        self.server
            .write("sys/policies/acl/conformance", &policy)
            .expect("policy");
        let role = Self::role("10m", "1h");
        self.server
            .write(&format!("auth/jwt/role/{ROLE}"), &role)
            .expect("role");
    }

    fn bao(&self, args: &[&str]) -> String {
        self.server.bao(args, None).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn grant(&self, roles: &[&str]) -> Grant {
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs();
        let claims = json!({
            "sub": "node", "aud": "openbao", "iat": now, "nbf": now - 5, "exp": now + 120, "jti": "j", "roles": roles
        });
        let signed = [json!({"alg": "ES256", "typ": "JWT"}), claims]
            .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("a signature");
        let jwt = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        let key = EphemeralKey::generate().expect("randomness");
        Grant::read(jwt.into_bytes().into(), key, "node").expect("a result")
    }

    fn backend(&self) -> OpenBao {
        self.backend_by(Login::Jwt { mount: "jwt".into() })
    }

    fn backend_by(&self, login: Login) -> OpenBao {
        let (origin, trust) = (origin(self.server.port()), trust(&self.pki));
        OpenBao::new(&origin, login, &trust, None).expect("backend")
    }

    async fn fetch(&self, backend: &dyn Backend, wanted: &[&str]) -> Result<Fetched, BackendError> {
        fetch(&Results(self, vec![ROLE]), backend, wanted).await
    }

    async fn texts(&self, backend: &dyn Backend, wanted: &[&str]) -> Vec<String> {
        texts(&Results(self, vec![ROLE]), backend, wanted).await
    }

    async fn refusal(&self, backend: &dyn Backend, wanted: &[&str]) -> String {
        refusal(&Results(self, vec![ROLE]), backend, wanted).await
    }
}

fn trust(pki: &Pki) -> Trust {
    let ca = pki.ca_pem().expect("CA");
    Trust::pinned("ca.pem", ca.as_bytes()).expect("trust")
}

fn origin(port: u16) -> Origin {
    Origin::parse("url", &format!("https://localhost:{port}")).expect("origin")
}

async fn fetch(grants: &dyn GrantSource, backend: &dyn Backend, wanted: &[&str]) -> Result<Fetched, BackendError> {
    let wanted: Vec<Reference> = wanted.iter().map(|text| text.parse().expect("a reference")).collect();
    backend.fetch(ROLE, &wanted, grants).await
}

async fn texts(grants: &dyn GrantSource, backend: &dyn Backend, wanted: &[&str]) -> Vec<String> {
    let fetched = fetch(grants, backend, wanted).await;
    let fetched = fetched.unwrap_or_else(|error| panic!("{error}"));
    let text = |value: &rempart_secret::SecretBytes| String::from_utf8(value.expose().clone()).expect("text");
    fetched.values.iter().map(text).collect()
}

async fn refusal(grants: &dyn GrantSource, backend: &dyn Backend, wanted: &[&str]) -> String {
    match fetch(grants, backend, wanted).await {
        Ok(_) => panic!("{wanted:?} was given"),
        Err(error) => error.to_string(),
    }
}

/// What every place of secrets does alike: `mount` keeps `a` with `x`, `y` and 1 MiB of bytes in `big`, and nothing else.
async fn keeps(grants: &dyn GrantSource, backend: &dyn Backend, mount: &str, big: &str) {
    let name = |field: &str| format!("{mount}/a#{field}");
    let (x, y, big) = (name("x"), name("y"), format!("{mount}/{big}"));
    assert_eq!(texts(grants, backend, &[&x, &y, &x]).await, ["one", "zwei ü", "one"]);
    let fetched = fetch(grants, backend, &[&big]).await.expect("a mebibyte");
    assert!(fetched.values[0].expose() == &bytes(), "byte for byte");
    assert!(fetched.leases.is_empty());
    let refused = async |wanted: &[&str]| refusal(grants, backend, wanted).await;
    let line = refused(&[&x, &name("none")]).await;
    assert!(
        (line.contains("has no secret") || line.contains("denies")) && line.contains("#none"),
        "{line}"
    );
    let line = refused(&[&format!("{mount}/none#x")]).await;
    assert!(line.contains("has no secret") || line.contains("denies"), "{line}");
    let line = refused(&[&format!("{mount}/closed#x")]).await;
    assert!(line.contains("denies") && !line.contains("hidden"), "{line}");
    let line = refused(&[&format!("{mount}/a?encoding=base64#y")]).await;
    assert!(line.contains("not base64") && !line.contains("zwei"), "{line}");
    let role: Vec<Reference> = vec![x.parse().expect("a reference")];
    let other = backend.fetch("other", &role, grants).await;
    assert!(
        matches!(other, Err(BackendError::RoleNotGranted { .. })),
        "{:?}",
        other.err()
    );
    backend.ready(ROLE, grants).await.expect("it could serve");
    assert!(backend.ready("other", grants).await.is_err());
}

/// A Verifier, and results that it takes for its own: they are signed with its key.
struct OwnStore {
    folder: tempfile::TempDir,
    pki: Pki,
    port: u16,
    _server: Process,
}

impl OwnStore {
    fn start() -> Self {
        let (folder, pki) = (
            tempfile::tempdir().expect("a folder"),
            Pki::open().expect("certificates"),
        );
        let port = free_port().expect("a port");
        let signer = folder.path().join("signer");
        let mut key = std::process::Command::new("ssh-keygen");
        run(key
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"])
            .arg(&signer))
        .expect("a key");
        let public = std::fs::read_to_string(signer.with_extension("pub")).expect("its public half");
        std::fs::write(folder.path().join("signers"), format!("owner {public}")).expect("written");
        let verifier = program("rempart-verifier").expect("built");
        let (dir, tls) = (folder.path().join("verifier"), pki.identity("verifier"));
        let mut init = std::process::Command::new(&verifier);
        init.arg("init")
            .arg("--dir")
            .arg(&dir)
            .args(["--id", &format!("https://localhost:{port}")]);
        init.args(["--listen", &format!("127.0.0.1:{port}")]);
        init.arg("--tls-certificate")
            .arg(tls.certificate)
            .arg("--tls-key")
            .arg(tls.key);
        init.arg("--allowed-signers").arg(folder.path().join("signers"));
        run(&mut init).expect("made");
        let config = dir.join("verifier.toml").display().to_string();
        let log = folder.path().join("verifier.log");
        let serve = ["--config", &config, "serve"];
        let mut server = Process::start("rempart-verifier", &verifier, &serve, &log).expect("started");
        let up = server.wait_until(Duration::from_secs(20), || wait_for_port(port));
        up.unwrap_or_else(|error| panic!("{error:#}"));
        let store = Self {
            folder,
            pki,
            port,
            _server: server,
        };
        store.command(&["node", "add", "node", "--role", ROLE], b"");
        store
    }

    fn command(&self, arguments: &[&str], input: &[u8]) {
        let mut command = std::process::Command::new(program("rempart-verifier").expect("built"));
        command
            .arg("--config")
            .arg(self.folder.path().join("verifier/verifier.toml"))
            .args(arguments);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("started");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input).expect("written");
        assert!(child.wait().expect("ended").success(), "{arguments:?}");
    }

    fn put(&self, name: &str, value: &[u8], role: &str) {
        self.command(&["secret", "set", name, "--role", role], value);
    }

    fn grant(&self) -> Grant {
        let key = EphemeralKey::generate().expect("randomness");
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs();
        let id = format!("https://localhost:{}", self.port);
        let none = "0".repeat(64);
        let claims = json!({
            "iss": id, "sub": "node", "aud": [rempart_attest::api::AUDIENCE_OPENBAO, rempart_attest::api::AUDIENCE_VERIFIER], "iat": now, "nbf": now - 5, "exp": now + 120,
            "jti": "j", "cnf": {"jwk": {"kty": "OKP", "crv": "X25519", "x": BASE64_URL_SAFE_NO_PAD.encode(key.public().0)}},
            "eat_profile": "tag:github.com,2023:veraison/ear", "ear.verifier-id": {"developer": "test", "build": "test"},
            "submods": {"machine": {
                "ear.status": "affirming", "ear.appraisal-policy-id": "test",
                "ear.trustworthiness-vector": {"instance-identity": 2, "executables": 2, "configuration": 2},
            }},
            "rempart.identity": "certified", "rempart.image": "test", "rempart.bank": "sha256", "rempart.policy-counter": 1,
            "rempart.roles": [ROLE], "roles": [ROLE], "policy_digest": none, "evidence_digest": none,
        });
        let signing = std::fs::read(self.folder.path().join("verifier/signing.key")).expect("the Verifier's key");
        let pair = signature::EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signing);
        let point = signature::KeyPair::public_key(&pair.expect("a P-256 key"))
            .as_ref()
            .to_vec();
        // As the Verifier names it in its key set, where a vault looks.
        let kid = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &point);
        let kid: String = kid.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let signer = rempart_attest::ear::Signer::new(&signing, kid);
        let jwt = signer.sign(&claims).expect("signed");
        Grant::read(jwt.into_bytes().into(), key, "node").expect("a result")
    }
}

impl GrantSource for OwnStore {
    fn fresh(&self) -> Later<'_, Result<Arc<Grant>, String>> {
        Box::pin(async { Ok(Arc::new(self.grant())) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verifiers_own_store() {
    let store = OwnStore::start();
    for (name, value) in [
        ("kv/a#x", "one".as_bytes()),
        ("kv/a#y", "zwei ü".as_bytes()),
        ("kv/a#big", &bytes()),
    ] {
        store.put(name, value, ROLE);
    }
    store.put("kv/closed#x", b"hidden", "other");
    let backend = VerifierStore::new(origin(store.port), trust(&store.pki));
    keeps(&store, &backend, "kv", "a#big").await;
    for number in 0..5 {
        store.put(&format!("kv/many#{number}"), &bytes(), ROLE);
    }
    let many: Vec<String> = (0..5).map(|number| format!("kv/many#{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        fetch(&store, &backend, &many[..4]).await.expect("4 MiB").values.len(),
        4
    );
    let line = refusal(&store, &backend, &many).await;
    assert!(line.contains("more than 4 MiB together"), "{line}");
}

/// `rempart setup` on a machine whose units have the roles app and other.
fn setup(machine: &std::path::Path, store: &OwnStore, server: &Server, more: &[&str]) -> std::path::PathBuf {
    for (unit, section) in [
        (
            "app",
            "Role=app\nSecret=X=kv/a#x\nSecret=Y=kv/a#y\nSecret=Z=team/old/a#x\nSecret=K:file=pki/issue/web?common_name=w.internal#private_key\n",
        ),
        ("other", "Role=other\nSecret=X=kv/other#x\n"),
    ] {
        let folder = machine.join(format!("etc/systemd/system/{unit}.service.d"));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(
            folder.join("50-rempart.conf"),
            format!("[X-Rempart]\nWrap=yes\n{section}"),
        )
        .expect("a drop-in");
        let fragment = machine.join(format!("etc/systemd/system/{unit}.service"));
        std::fs::write(fragment, "[Service]\nExecStart=/bin/true\n").expect("a unit");
    }
    let owner = machine.join("owner");
    let mut command = std::process::Command::new(program("rempart").expect("built"));
    command.args([
        "setup",
        "--yes",
        "--force",
        "--node",
        "node",
        "--vault",
        "openbao",
        "--engine",
        "team/old=kv1",
    ]);
    command.arg("--root").arg(machine).arg("--owner-files").arg(&owner);
    command.args([
        "--verifier",
        &format!("https://localhost:{}", store.port),
        "--verifier-ca",
    ]);
    command.arg(store.pki.ca());
    command
        .args(["--vault-url", &format!("https://localhost:{}", server.port())])
        .args(more);
    run(&mut command).expect("set up");
    owner
}

/// Runs the script that setup has written, as the vault's administrator.
fn as_administrator(server: &Server, pki: &Pki, script: &std::path::Path) {
    run(at_vault("sh".as_ref(), server, pki, server.root_token()).arg(script)).expect("the script");
}

/// A program that talks to the vault under `token`.
fn at_vault(program: &std::path::Path, server: &Server, pki: &Pki, token: &str) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .env("VAULT_PROGRAM", server.program())
        .env("BAO_ADDR", format!("https://localhost:{}", server.port()))
        .env("BAO_CACERT", pki.ca())
        .env("BAO_TOKEN", token);
    command
}

fn bao_of(server: &Server, pki: &Pki, login: Login) -> OpenBao {
    OpenBao::new(&origin(server.port()), login, &trust(pki), None).expect("backend")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_setup_writes_for_the_vault_opens_what_the_units_name_and_nothing_else() {
    let store = OwnStore::start();
    let server = Server::start(&store.pki).expect("OpenBao");
    let bao = |args: &[&str]| server.bao(args, None).unwrap_or_else(|error| panic!("{error:#}"));
    let write = |path: &str, body: serde_json::Value| server.write(path, &body).expect(path);
    let machine = tempfile::tempdir().expect("a folder");
    let owner = setup(machine.path(), &store, &server, &[]);
    as_administrator(&server, &store.pki, &owner.join("vault.sh"));
    // A second run, of files that setup has written again, changes nothing.
    let read = |path: &str, field: &str| bao(&["read", "-format=json", &format!("-field={field}"), path]);
    let told = || {
        [
            read("auth/jwt/config", "data"),
            read("auth/jwt/role/app", "data"),
            read("sys/policies/acl/rempart-app", "policy"),
        ]
    };
    let before = told();
    assert_eq!(setup(machine.path(), &store, &server, &[]), owner);
    as_administrator(&server, &store.pki, &owner.join("vault.sh"));
    assert_eq!(told(), before);

    // Under the Verifier's own policy an entity can be disabled, and nothing be given to it.
    write("identity/entity", json!({"name": "somebody"}));
    let entity = bao(&["read", "-field=id", "identity/entity/name/somebody"]);
    let token = bao(&["token", "create", "-field=token", "-policy=rempart_verifier"]);
    let disable = |what: &str| {
        let mut bao = at_vault(server.program(), &server, &store.pki, token.trim());
        run(bao.args(["write", &format!("identity/entity/id/{}", entity.trim()), what]))
    };
    disable("disabled=true").expect("allowed");
    let denied = disable("policies=rempart-app").expect_err("its own entity would have them too");
    assert!(format!("{denied:#}").contains("permission denied"), "{denied:#}");

    // A mount that trusts another issuer stays as it is.
    let trust = |issuer: &str| {
        let jwks = format!("https://localhost:{}/none", server.port());
        let ca = store.pki.ca_pem().expect("CA");
        json!({"jwks_url": jwks, "jwks_ca_pem": ca, "bound_issuer": issuer, "skip_jwks_validation": true})
    };
    bao(&["auth", "enable", "-path=theirs", "jwt"]);
    write("auth/theirs/config", trust("https://ci.example"));
    let theirs = setup(machine.path(), &store, &server, &["--auth-mount", "theirs"]);
    let script = theirs.join("vault.sh");
    let refused = run(at_vault("sh".as_ref(), &server, &store.pki, server.root_token()).arg(script));
    let refused = format!("{:#}", refused.expect_err("somebody else's"));
    assert!(
        refused.contains("auth/theirs trusts https://ci.example already"),
        "{refused}"
    );
    assert_eq!(
        read("auth/theirs/config", "bound_issuer").trim().trim_matches('"'),
        "https://ci.example"
    );

    bao(&["secrets", "enable", "-path=team/old", "-version=1", "kv"]);
    bao(&["secrets", "enable", "pki"]);
    bao(&["write", "pki/root/generate/internal", "common_name=test", "ttl=24h"]);
    write(
        "pki/roles/web",
        json!({"allowed_domains": "internal", "allow_subdomains": true, "ttl": "1h", "key_type": "ec", "key_bits": 256}),
    );
    write(
        "pki/roles/mail",
        json!({"allow_any_name": true, "ttl": "1h", "key_type": "ec", "key_bits": 256}),
    );
    for (path, body) in [
        ("kv/data/a", json!({"data": {"x": "one", "y": "two"}})),
        ("kv/data/other", json!({"data": {"x": "hidden"}})),
        ("kv/data/a/below", json!({"data": {"x": "hidden"}})),
        ("team/old/a", json!({"x": "three"})),
        ("team/old/b", json!({"x": "hidden"})),
    ] {
        write(path, body);
    }
    let backend = bao_of(&server, &store.pki, Login::Jwt { mount: "jwt".into() });
    assert_eq!(
        texts(&store, &backend, &["kv/a#x", "kv/a#y", "team/old/a#x"]).await,
        ["one", "two", "three"]
    );
    let key = texts(&store, &backend, &["pki/issue/web?common_name=w.internal#private_key"]).await;
    assert!(key[0].contains("PRIVATE KEY"));
    for foreign in [
        "kv/other#x",
        "kv/a/below#x",
        "team/old/b#x",
        "pki/issue/mail?common_name=m.internal#private_key",
    ] {
        let line = refusal(&store, &backend, &[foreign]).await;
        assert!(line.contains("denies") && !line.contains("hidden"), "{foreign}: {line}");
    }
    // The server itself looks at the roles in the result: the agent's own look is passed by.
    let jwt = store.grant().ear.expose().clone();
    let login = |role: &str| {
        server.bao(
            &["write", "-field=token", "auth/jwt/login", "-"],
            Some(&json!({"role": role, "jwt": jwt})),
        )
    };
    assert!(login("app").is_ok());
    assert!(login("other").is_err(), "a role that the Verifier has not granted");
    assert!(login("rempart-verifier").is_err(), "the Verifier's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_the_approle_that_setup_writes_open_what_the_units_name_and_nothing_else() {
    let store = OwnStore::start();
    let server = Server::start(&store.pki).expect("OpenBao");
    let machine = tempfile::tempdir().expect("a folder");
    let owner = setup(
        machine.path(),
        &store,
        &server,
        &["--auth", "approle", "--auth-mount", "nodes/ids"],
    );
    as_administrator(&server, &store.pki, &owner.join("vault.sh"));
    as_administrator(&server, &store.pki, &owner.join("vault.sh"));
    for (path, value) in [("a", "one"), ("other", "hidden")] {
        server.put_secret(path, &[("x", value)]).expect("put");
    }
    let ids = tempfile::tempdir().expect("a folder");
    let role = "auth/nodes/ids/role/app";
    for (kind, arguments) in [
        ("role-id", vec!["read", "-field=role_id"]),
        ("secret-id", vec!["write", "-f", "-field=secret_id"]),
    ] {
        let path = format!("{role}/{kind}");
        let id = server.bao(&[&arguments[..], &[&path]].concat(), None).expect("an id");
        let file = ids.path().join(format!("{ROLE}.{kind}"));
        std::fs::write(&file, id).expect("written");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("mode");
    }
    let login = Login::AppRole {
        mount: "nodes/ids".into(),
        folder: ids.path().to_owned(),
    };
    let backend = bao_of(&server, &store.pki, login);
    assert_eq!(texts(&store, &backend, &["kv/a#x"]).await, ["one"]);
    let line = refusal(&store, &backend, &["kv/other#x"]).await;
    assert!(line.contains("denies") && !line.contains("hidden"), "{line}");
}

#[test]
fn the_certificate_roles_that_setup_writes_are_taken_by_the_server() {
    let store = OwnStore::start();
    let server = Server::start(&store.pki).expect("OpenBao");
    let machine = tempfile::tempdir().expect("a folder");
    let owner = setup(machine.path(), &store, &server, &["--auth", "cert"]);
    std::fs::copy(
        store.folder.path().join("verifier/client-ca.pem"),
        owner.join("client-ca.pem"),
    )
    .expect("the authority");
    as_administrator(&server, &store.pki, &owner.join("vault.sh"));
    let told = server
        .bao(&["read", "-format=json", "auth/cert/certs/app"], None)
        .expect("the role");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["data"]["allowed_uri_sans"], json!(["rempart:role:app"]));
    assert_eq!(told["data"]["token_policies"], json!(["rempart-app"]));
    assert!(
        told["data"]["certificate"]
            .as_str()
            .is_some_and(|pem| pem.contains("BEGIN CERTIFICATE"))
    );
    let verifiers = std::fs::read_to_string(owner.join("verifier-vault.toml")).expect("written");
    assert!(
        verifiers.contains("cert_mount = \"cert\"") && verifiers.contains("auth_mount = \"jwt\""),
        "{verifiers}"
    );
}

fn bytes() -> Vec<u8> {
    (0..1 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn put(world: &World, path: &str, versioned: bool) {
    let write = |name: &str, fields: serde_json::Value| {
        let (path, body) = match versioned {
            true => (format!("{path}/data/{name}"), json!({ "data": fields })),
            false => (format!("{path}/{name}"), fields),
        };
        world.server.write(&path, &body).expect("put");
    };
    write(
        "a",
        json!({"x": "one", "y": "zwei ü", "big": BASE64_STANDARD.encode(bytes())}),
    );
    write("closed", json!({"x": "hidden"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_engines_of_both_versions_wrapped_and_not() {
    let world = World::start();
    world.bao(&["secrets", "enable", "-path=team/old", "-version=1", "kv"]);
    put(&world, "kv", true);
    put(&world, "team/old", false);
    world.allow(
        r#"path "kv/data/a" { capabilities = ["read"] }
           path "team/old/a" { capabilities = ["read"] }"#,
    );
    for wrapping in [false, true] {
        let backend = world.backend().by_wrapping(wrapping);
        keeps(&Results(&world, vec![ROLE]), &backend, "kv", BIG).await;
        keeps(&Results(&world, vec![ROLE]), &backend, "team/old", BIG).await;
        backend.forget().await;
    }
    let backend = world.backend();
    let logins = || {
        world
            .server
            .audit_log()
            .expect("audit log")
            .matches("\"path\":\"auth/jwt/login\"")
            .count()
    };
    let (before, x) = (logins(), ["kv/a#x"]);
    let answers = tokio::join!(
        world.fetch(&backend, &x),
        world.fetch(&backend, &x),
        world.fetch(&backend, &x)
    );
    assert!(answers.0.is_ok() && answers.1.is_ok() && answers.2.is_ok());
    assert_eq!(
        logins() - before,
        2,
        "one request and its answer: who comes meanwhile waits for that login"
    );
    world.server.put_secret("a", &[("x", "two")]).expect("version 2");
    assert_eq!(
        world.texts(&backend, &["kv/a#x", "kv/a?version=1#x"]).await,
        ["two", "one"],
        "the newest, or the one that is named"
    );
    world.bao(&["kv", "delete", "-mount=kv", "a"]);
    let refusal = world.refusal(&backend, &["kv/a#x"]).await;
    assert!(refusal.contains("has no secret"), "{refusal}");
    assert_eq!(world.texts(&backend, &["kv/a?version=1#x"]).await, ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ids_from_files_open_what_their_role_may_and_only_while_the_verifier_grants_it() {
    let world = World::start();
    put(&world, "kv", true);
    world.allow(r#"path "kv/data/a" { capabilities = ["read"] }"#);
    let folder = tempfile::tempdir().expect("a folder");
    let backend = || {
        world.backend_by(Login::AppRole {
            mount: "approle".into(),
            folder: folder.path().to_owned(),
        })
    };
    let id = |kind: &str, text: &str| {
        let path = folder.path().join(format!("{ROLE}.{kind}"));
        drop(std::fs::remove_file(&path));
        let mut open = std::fs::File::options();
        let mut file = std::os::unix::fs::OpenOptionsExt::mode(open.write(true).create_new(true), 0o400)
            .open(path)
            .expect("created");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    };
    let refusal = world.refusal(&backend(), &["kv/a#x"]).await;
    assert!(refusal.contains(&format!("{ROLE}.role-id")), "{refusal}");
    id("role-id", ROLE);
    id("secret-id", "00000000-0000-0000-0000-000000000000");
    let refusal = world.refusal(&backend(), &["kv/a#x"]).await;
    assert!(
        refusal.contains("no AppRole auth is mounted") || refusal.contains("denies"),
        "{refusal}"
    );
    world.bao(&["auth", "enable", "approle"]);
    let role = json!({"role_id": ROLE, "token_policies": ["conformance"], "token_ttl": "10m", "token_max_ttl": "1h"});
    world
        .server
        .write(&format!("auth/approle/role/{ROLE}"), &role)
        .expect("role");
    let refusal = world.refusal(&backend(), &["kv/a#x"]).await;
    assert!(
        refusal.contains("denies") && !refusal.contains("0000-0000"),
        "{refusal}"
    );
    let made = world.bao(&[
        "write",
        "-force",
        "-field=secret_id",
        &format!("auth/approle/role/{ROLE}/secret-id"),
    ]);
    id("secret-id", &format!("{made}\n"));
    keeps(&Results(&world, vec![ROLE]), &backend(), "kv", BIG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_has_its_own_logins_and_secrets() {
    let world = World::start();
    put(&world, "kv", true);
    world.allow(r#"path "kv/data/a" { capabilities = ["read"] }"#);
    world.bao(&["namespace", "create", "team"]);
    let backend = world.backend().in_namespace(Some("team".into()));
    let refusal = world.refusal(&backend, &["kv/a#x"]).await;
    assert!(
        refusal.contains("no JWT auth is mounted") || refusal.contains("denies"),
        "{refusal}"
    );

    let inside = |path: &str, body: serde_json::Value| {
        let written = world.server.bao(&["write", "-namespace=team", path, "-"], Some(&body));
        written.unwrap_or_else(|error| panic!("{error:#}"))
    };
    world.bao(&["auth", "enable", "-namespace=team", "jwt"]);
    world.bao(&["secrets", "enable", "-namespace=team", "-path=kv", "-version=2", "kv"]);
    inside("auth/jwt/config", world.trust());
    inside(
        "sys/policies/acl/conformance",
        json!({"policy": r#"path "kv/data/a" { capabilities = ["read"] }"#}),
    );
    inside(&format!("auth/jwt/role/{ROLE}"), World::role("10m", "1h"));
    inside("kv/data/a", json!({"data": {"x": "of the team"}}));
    assert_eq!(world.texts(&backend, &["kv/a#x"]).await, ["of the team"]);
    assert_eq!(
        world.texts(&world.backend(), &["kv/a#x"]).await,
        ["one"],
        "and not the root's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_cannot_get_the_verifiers_keys_has_said_no_to_nobody() {
    let world = World::start();
    world.allow(r#"path "kv/data/a" { capabilities = ["read"] }"#);
    let away = json!({
        "jwks_url": "https://localhost:1/jwks", "jwks_ca_pem": world.pki.ca_pem().expect("CA"), "jwt_supported_algs": ["ES256"],
        "skip_jwks_validation": true,
    });
    world.server.write("auth/jwt/config", &away).expect("configured");
    let backend = world.backend();
    match world.fetch(&backend, &["kv/a#x"]).await {
        // What stands in for a vault that is away may be given out, and what units hold stays.
        Err(BackendError::Unreachable { .. }) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("given"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "PostgreSQL needs root: ./x runs it so"]
async fn credentials_of_a_database_live_as_long_as_their_lease() {
    let world = World::start();
    let postgres = Postgres::start(&world.pki).expect("PostgreSQL");
    world.server.connect(&postgres).expect("connection");
    world.server.logins("app", "60s", "90s", "").expect("role");
    world.allow(
        r#"path "db/creds/app" { capabilities = ["read"] }
           path "sys/leases/revoke" { capabilities = ["update"] }"#,
    );
    let backend = world.backend();
    let wanted = ["db/creds/app#username", "db/creds/app#password"];
    let fetched = world.fetch(&backend, &wanted).await.expect("credentials");
    let name = String::from_utf8(fetched.values[0].expose().clone()).expect("a name");
    let there = |name: &str| {
        let found = postgres.sql(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'"));
        found.expect("asked").trim() == "1"
    };
    assert!(there(&name), "both fields are of one answer, whose login exists");
    let [lease] = fetched.leases.as_slice() else {
        panic!("{:?}", fetched.leases)
    };
    assert!(
        lease.is_renewable() && lease.life() == Duration::from_secs(60),
        "{lease:?}"
    );

    // Another unit of the role is denied something: the login that this lease rests on stays.
    world.refusal(&backend, &["kv/closed#x"]).await;
    assert!(there(&name));

    std::thread::sleep(Duration::from_secs(2));
    let longer = backend.renew(lease).await.expect("renewed");
    assert!(
        longer.given() > lease.given() && longer.life() >= Duration::from_secs(59),
        "{longer:?}"
    );
    backend.end(vec![longer.clone()]).await;
    assert!(!there(&name), "given back");
    assert!(matches!(backend.renew(&longer).await, Err(BackendError::LeaseEnded(_))));

    // A question of which one part fails leaves nothing behind.
    let before = world.server.leases("db/creds/app");
    world.refusal(&backend, &["db/creds/app#username", "kv/closed#x"]).await;
    backend.end(Vec::new()).await;
    assert_eq!(world.server.leases("db/creds/app"), before);

    // An answer that was lost may have made a lease that nobody knows: what comes next rests on another login, and this one ends with what is known of it.
    let slow = "SELECT pg_sleep(2); ";
    world.server.logins("slow", "60s", "90s", slow).expect("role");
    let rules = r#"path "db/creds/*" { capabilities = ["read"] }
                   path "sys/leases/revoke" { capabilities = ["update"] }"#;
    world.allow(rules);
    let tokens = || {
        world
            .bao(&["list", "-format=json", "auth/token/accessors"])
            .matches('"')
            .count()
            / 2
    };
    let held = world.fetch(&backend, &wanted).await.expect("credentials");
    let before = tokens();
    let lost = world.fetch(&backend, &["db/creds/slow#username"]);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), lost).await.is_err(),
        "nobody waits for it"
    );
    backend.end(Vec::new()).await;
    assert!(backend.renew(&held.leases[0]).await.is_ok(), "what is held is good");
    let next = world.fetch(&backend, &wanted).await.expect("credentials");
    assert_eq!(tokens(), before + 1, "another login");
    backend.end(held.leases).await;
    assert_eq!(tokens(), before, "the first has ended");
    assert!(backend.is_alive(&next.leases[0]));
    let until = Instant::now() + Duration::from_secs(10);
    let lost = || world.server.leases("db/creds/slow");
    std::thread::sleep(Duration::from_secs(3));
    while lost() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(lost(), 0, "with what was lost under it");
    backend.end(next.leases).await;

    // The lock: the token's end is the leases' end.
    let fetched = world.fetch(&backend, &wanted).await.expect("credentials");
    let name = String::from_utf8(fetched.values[0].expose().clone()).expect("a name");
    backend.forget().await;
    let until = Instant::now() + Duration::from_secs(10);
    while there(&name) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!there(&name), "revoked with the token");
    assert!(matches!(
        backend.renew(&fetched.leases[0]).await,
        Err(BackendError::LeaseEnded(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_decryption() {
    let world = World::start();
    world.bao(&["secrets", "enable", "pki"]);
    world.bao(&["write", "pki/root/generate/internal", "common_name=test", "ttl=24h"]);
    let role = json!({"allowed_domains": "internal", "allow_subdomains": true, "ttl": "1h", "key_type": "ec", "key_bits": 256});
    world.server.write("pki/roles/web", &role).expect("role");
    world.bao(&["secrets", "enable", "transit"]);
    world.bao(&["write", "-f", "transit/keys/k"]);
    let sealed = world.server.bao(
        &["write", "-field=ciphertext", "transit/encrypt/k", "-"],
        Some(&json!({"plaintext": BASE64_STANDARD.encode("in clear")})),
    );
    world.allow(
        r#"path "pki/issue/web" { capabilities = ["update"] }
           path "transit/decrypt/k" { capabilities = ["update"] }"#,
    );
    let backend = world.backend();
    let issue = "pki/issue/web?common_name=w.internal&ttl=30m";
    let wanted = [
        format!("{issue}#certificate"),
        format!("{issue}#private_key"),
        format!("{issue}#ca_chain"),
    ];
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let fetched = world.fetch(&backend, &wanted).await.expect("a certificate");
    let pem = |at: usize| String::from_utf8(fetched.values[at].expose().clone()).expect("PEM");
    assert!(
        pem(0).contains("BEGIN CERTIFICATE") && pem(1).contains("PRIVATE KEY") && pem(2).contains("BEGIN CERTIFICATE")
    );
    let pair = rcgen::KeyPair::from_pem(&pem(1)).expect("a key");
    assert!(
        BASE64_STANDARD
            .decode(pem(0).lines().filter(|line| !line.starts_with('-')).collect::<String>())
            .expect("DER")
            .windows(pair.public_key_raw().len())
            .any(|window| window == pair.public_key_raw()),
        "certificate and key are of one answer"
    );
    let [lease] = fetched.leases.as_slice() else {
        panic!("{:?}", fetched.leases)
    };
    let minutes = lease.life().as_secs_f64() / 60.0;
    assert!((28.0..=31.0).contains(&minutes) && !lease.is_renewable(), "{lease:?}");

    let sealed = sealed.expect("encrypted");
    let decrypt = format!(
        "transit/decrypt/k?encoding=base64&ciphertext={}#plaintext",
        sealed.trim()
    );
    assert_eq!(world.texts(&backend, &[&decrypt]).await, ["in clear"]);
    let refusal = world.refusal(&backend, &["transit/keys/k#keys"]).await;
    assert!(
        refusal.contains("gives no secrets there") || refusal.contains("denies"),
        "{refusal}"
    );
}
