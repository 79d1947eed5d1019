//! What rempartd promises, seen from outside: against a software TPM and the real Verifier, without a virtual machine.
//! The guard is absent here: the tests say `degraded = "allow"` but for the one about refusing.

mod again;
mod certificate;
mod credential;
mod evidence;
mod front;
mod leak;
mod lease;
mod links;
mod lock;
mod memory;
mod offline;
mod sealed;
#[path = "../../../../attest/device/tests/common/mod.rs"]
mod swtpm;
mod systemd;
mod template;
mod tpm;
mod world;

use rempart_core::audit::Chain;
use rempart_harness::OpenBao;
use world::{VALUE, World};

const ALLOW: &str = "[guard]\ndegraded = \"allow\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_attested_node_releases_to_the_unit_once_a_start_and_to_nobody_else() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    let gate = world.rempart(&["gate"]);
    assert!(gate.status.success(), "{gate:?} {}", world.logs());
    let status = world.status();
    assert_eq!(status["roles"], serde_json::json!(["web"]));
    assert_eq!(status["guard"]["enforcing"], false);

    let (area, items) = world.ask().expect("released");
    let value = |index: usize| &area.as_slice()[items[index].offset..items[index].offset + items[index].len];
    assert_eq!((value(0), value(1)), (VALUE.as_bytes(), VALUE.as_bytes()));
    let link = std::fs::read_link(items[1].path.as_deref().expect("a file's path")).expect("link");
    assert_eq!(link.to_str(), Some("/proc/self/fd/201"));
    assert!(world.ask().expect_err("twice").contains("already"));

    world.systemd.start_again();
    world.systemd.service.lock().expect("no panic").started_pid = 1;
    assert!(
        world
            .ask()
            .expect_err("another process")
            .contains("not the process that systemd started")
    );
    world.systemd.service.lock().expect("no panic").started_pid = std::process::id();
    world.systemd.service.lock().expect("no panic").ended = true;
    assert!(
        world
            .ask()
            .expect_err("a number used again")
            .contains("not the process")
    );
    world.systemd.service.lock().expect("no panic").ended = false;
    world.systemd.service.lock().expect("no panic").arguments = vec!["/evil".into()];
    assert!(
        world
            .ask()
            .expect_err("loaded from a file since put back")
            .contains("ExecStart= was changed")
    );
    world.systemd.service.lock().expect("no panic").arguments = Vec::new();
    let own = std::mem::replace(
        &mut world.systemd.service.lock().expect("no panic").program,
        "/usr/bin/web".into(),
    );
    assert!(world.ask().expect_err("not wrapped").contains("not started through"));
    world.systemd.service.lock().expect("no panic").program = own;
    world.ask().expect("the next start");

    world.systemd.start_again();
    let unit = world.at("units/web.service");
    std::fs::write(&unit, std::fs::read_to_string(&unit).expect("unit") + "# changed\n").expect("write");
    let unit = unit.display().to_string();
    assert!(
        world
            .ask()
            .expect_err("changed")
            .contains(&format!("{unit} was changed"))
    );
    world.stop_agent();
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    assert!(
        world
            .ask()
            .expect_err("a restarted agent does not accept what changed")
            .contains("was changed")
    );

    let audit = std::fs::read_to_string(world.at("state/audit.jsonl")).expect("audit log");
    let chain = Chain::replay(audit.lines()).expect("whole");
    assert_eq!(
        serde_json::json!(hex::encode(chain.head())),
        world.status()["audit_head"]
    );
    assert_eq!(audit.matches("\"released\"").count(), 2, "{audit}");
    for text in [&audit, &world.logs()] {
        assert!(
            !text.contains(VALUE) && !text.contains("eyJ"),
            "a secret or a token: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_register_and_stays_until_an_operator_attests_again() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    world.install_policy(2, &"ff".repeat(32));
    let attest = world.attest_until(77);
    let line = String::from_utf8_lossy(&attest.stderr).into_owned();
    assert!(line.contains("PCR 4") && line.lines().count() == 1, "{line}");
    assert_eq!(world.status()["state"], "locked");
    assert!(world.ask().expect_err("locked").contains("locked"));
    assert_eq!(world.rempart(&["gate"]).status.code(), Some(77));

    world.install_policy(3, &"00".repeat(32));
    assert_eq!(world.status()["state"], "locked", "a refusal is latched");
    assert_eq!(world.rempart(&["attest"]).status.code(), Some(77), "at the Verifier");
    world.clear_node();
    world.attest_until(0);
    world.ask().expect("unlocked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_no_drift_ends_on_the_nodes_own_operators_request_only() {
    let mut world = World::new().await;
    world.start_agent(&format!("{ALLOW}[attest]\ninterval = \"10s\"\n"));
    world.wait_for_state("unlocked");
    world.verifier_command(&["node", "rm", "demo-1"], "");
    let status = world.wait_for_state("locked");
    assert_eq!(status["latched"], true, "{status}");
    world.verifier_command(&["node", "add", "demo-1", "--role", "web"], "");
    std::thread::sleep(std::time::Duration::from_secs(14));
    assert_eq!(world.status()["state"], "locked", "nobody here asked");
    world.attest_until(0);
    assert_eq!(
        world.logs().matches("is enrolled at").count(),
        2,
        "what was removed is enrolled anew"
    );
    world.ask().expect("unlocked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_attestation_key_and_both_banks_attest() {
    let mut world = World::new().await;
    for (counter, ak, bank) in [(2, "template:rsa-2048", "sha256"), (3, "template:ecc-p384", "sha384")] {
        world.install_policy_for(counter, bank, &"00".repeat(if bank == "sha384" { 48 } else { 32 }));
        world.tpm_words = format!("ak = \"{ak}\"\nbank = \"{bank}\"\n");
        world.start_agent(ALLOW);
        let status = world.wait_for_state("unlocked");
        assert_eq!(status["attestation"]["tpm"]["attestation_key"], ak);
        assert_eq!(status["attestation"]["tpm"]["bank"], bank);
        world.ask().expect("released");
        world.systemd.start_again();
        world.stop_agent();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_an_absent_verifier_and_unlocks_when_it_comes() {
    let mut world = World::new().await;
    world.stop_verifier();
    world.start_agent(ALLOW);
    let status = world.wait_for_state("attesting");
    assert_ne!(status["state"], "locked");
    assert!(world.ask().expect_err("not attested").contains("not"));
    world.start_verifier();
    world.wait_for_state("unlocked");
    world.ask().expect("released");
    // An operator's question to an absent Verifier is answered as what it is, and takes nothing away.
    world.stop_verifier();
    let attest = world.rempart(&["attest"]);
    assert_eq!(attest.status.code(), Some(69), "{attest:?}");
    assert_eq!(world.status()["state"], "unlocked");
    world.start_verifier();
    assert!(world.rempart(&["attest"]).status.success());
    // The certificate of the first enrolment serves the next start of the agent.
    world.stop_agent();
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(world.logs().matches("is enrolled at").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_protection_nothing_is_released_unless_the_operator_allows_it() {
    let mut world = World::new().await;
    world.start_agent("");
    // Without anybody to deny what root may do, the node does not even unlock, and says so.
    let patience = std::time::Duration::from_secs(30);
    let status = world.wait_until("waiting for the guard", patience, |status| {
        status["reason"]
            .as_str()
            .is_some_and(|why| why.contains("rempart-guard is not reachable"))
    });
    assert_eq!(status["state"], "attesting", "{status}");
    assert!(
        world
            .ask()
            .expect_err("no guard")
            .contains("rempart-guard is not reachable")
    );
    world.start_guard();
    let status = world.wait_for_state("unlocked");
    if status["guard"]["enforcing"] == true {
        return; // A kernel that enforces is for the tests in virtual machines.
    }
    assert!(
        status["guard"]["why"]
            .as_str()
            .is_some_and(|why| !why.contains("not reachable")),
        "{status}"
    );
    let refused = world.ask().expect_err("degraded");
    assert!(
        refused.contains("cannot be protected") && refused.contains("guard.degraded"),
        "{refused}"
    );
    world.stop_agent();
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    world.ask().expect("allowed by the operator");
}

#[tokio::test(flavor = "multi_thread")]
async fn openbao_gives_to_the_attested_node_only_and_gets_its_tokens_back_on_lock() {
    let mut world = World::new().await;
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    bao.role("web", &["web"]).expect("role");
    let jwks = format!("{}/.well-known/jwks.json", world.verifier_url());
    bao.trust_verifier(&jwks, &world.verifier_url()).expect("trust");
    let ca = world.pki.ca();
    let vault = |ca: &str| {
        format!(
            "[vault]\nkind = \"openbao\"\nurl = \"https://localhost:{}\"\nca = \"{ca}\"\n",
            bao.port()
        )
    };
    world.start_agent_with(&vault(&ca.display().to_string()), ALLOW);
    world.wait_for_state("unlocked");
    let calls = |path: &str| {
        let lines = bao.audit_log().expect("audit log");
        lines
            .lines()
            .filter(|line| line.contains("\"response\"") && line.contains(&format!("\"path\":\"{path}\"")))
            .count()
    };

    for _ in 0..2 {
        let (area, items) = world.ask().expect("released");
        assert_eq!(&area.as_slice()[..items[0].len], VALUE.as_bytes());
        world.systemd.start_again();
    }
    assert_eq!(calls("auth/jwt/login"), 1, "one token serves two starts");

    bao.seal().expect("seal");
    assert!(world.ask().expect_err("sealed").contains("is sealed"));
    bao.unseal().expect("unseal");
    world.ask().expect("unsealed");
    world.systemd.start_again();

    let denying = serde_json::json!({"policy": "path \"kv/data/web\" { capabilities = [\"deny\"] }"});
    bao.write("sys/policies/acl/rempart-web", &denying).expect("policy");
    assert!(world.ask().expect_err("denied").contains("denies kv/web#tls_key"));
    bao.role("web", &["web"]).expect("role");
    bao.put_secret("web", &[("other", VALUE)]).expect("secret");
    assert!(world.ask().expect_err("absent").contains("no secret kv/web#tls_key"));
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    world.ask().expect("there again");

    world.install_policy(2, &"ff".repeat(32));
    let revoked = calls("auth/token/revoke-self");
    world.attest_until(77);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while calls("auth/token/revoke-self") == revoked {
        assert!(
            std::time::Instant::now() < until,
            "no token was given back: {}",
            world.logs()
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }

    world.stop_agent();
    world.install_policy(3, &"00".repeat(32));
    world.clear_node();
    let foreign = world.tpm_authority();
    world.start_agent_with(&vault(&foreign.display().to_string()), ALLOW);
    world.wait_for_state("unlocked");
    world.systemd.start_again();
    assert!(world.ask().expect_err("another CA").contains("does not answer"));
    let logs = world.logs();
    assert!(
        !logs.contains(VALUE) && !logs.contains("eyJ") && !logs.contains(bao.root_token()),
        "{logs}"
    );
}
