//! When a node attests again: on a new policy, on resume, while the Verifier holds it; and what its tokens live on.

use std::time::Duration;

use rempart_harness::OpenBao;
use zbus::{connection::Builder, interface, object_server::SignalEmitter};

use crate::{
    ALLOW,
    world::{VALUE, World},
};

/// No attestation by the interval happens in these tests.
const SELDOM: &str = "[attest]\ninterval = \"24h\"\n";
const OFTEN: &str = "[attest]\ninterval = \"10s\"\n";

struct Logind;

#[interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_counts_long_before_the_interval_is_over() {
    let mut world = World::new().await;
    world.start_agent(&format!("{ALLOW}{SELDOM}"));
    world.wait_for_state("unlocked");
    world.install_policy(2, &"ff".repeat(32));
    let patience = rempart_core::machine::POLICY_SPREAD + Duration::from_secs(25);
    let status = world.wait_until("locked by the new policy", patience, |status| {
        status["state"] == "locked"
    });
    assert!(
        status["reason"].as_str().is_some_and(|why| why.contains("PCR 4")),
        "{status}"
    );
    assert!(world.logs().contains("has another policy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slept_attests_as_soon_as_it_runs() {
    let mut world = World::new().await;
    let logind = Builder::address(world.bus())
        .and_then(|builder| builder.name("org.freedesktop.login1"))
        .and_then(|builder| builder.serve_at("/org/freedesktop/login1", Logind))
        .expect("bus")
        .build()
        .await
        .expect("logind's name");
    world.start_agent(&format!("{ALLOW}{SELDOM}"));
    let before = world.wait_for_state("unlocked")["unlocked_until_us"]
        .as_u64()
        .expect("a time");
    std::thread::sleep(Duration::from_secs(2));
    let emitter = SignalEmitter::new(&logind, "/org/freedesktop/login1").expect("emitter");
    Logind::prepare_for_sleep(&emitter, true).await.expect("told");
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        !world.logs().contains("was suspended"),
        "going to sleep is not waking up"
    );
    Logind::prepare_for_sleep(&emitter, false).await.expect("told");
    world.wait_until("attested again", Duration::from_secs(30), |status| {
        status["unlocked_until_us"].as_u64().is_some_and(|until| until > before)
    });
    assert_eq!(world.logs().matches("was suspended").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_held_by_the_verifier_until_its_operator_clears_the_node() {
    let mut world = World::new().await;
    world.start_agent(&format!("{ALLOW}{OFTEN}"));
    world.wait_for_state("unlocked");
    world.install_policy(2, &"ff".repeat(32));
    world.wait_for_state("locked");
    world.install_policy(3, &"00".repeat(32));
    // It asks again and again, and what it sends would do; the latch is what refuses it.
    let held = world.wait_until("told of the latch", Duration::from_secs(40), |status| {
        status["attestation"]["findings"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["check"] == "drift-latched"))
    });
    assert_eq!((&held["state"], &held["latched"]), (&"locked".into(), &true.into()));
    assert!(world.ask().expect_err("held").contains("locked"));
    let attest = world.rempart(&["attest"]);
    assert_eq!(
        attest.status.code(),
        Some(77),
        "not even on the node's own operator's request: {attest:?}"
    );

    world.clear_node();
    world.wait_until("unlocked by itself", Duration::from_secs(40), |status| {
        status["state"] == "unlocked"
    });
    world.ask().expect("released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_on_a_fresh_result_and_not_had_by_another_login() {
    let mut world = World::new().await;
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    bao.role("web", &["web"]).expect("role");
    // Each token would end before the attestation after the next one.
    bao.write("auth/jwt/role/web", &serde_json::json!({"role_type": "jwt", "bound_audiences": ["openbao"], "user_claim": "sub",
        "bound_claims": {"roles": "web"}, "token_policies": ["rempart-web"], "token_ttl": "40s", "token_max_ttl": "1h"}))
        .expect("role");
    let vault = world.vault(&bao);
    world.start_agent_with(&vault, &format!("{ALLOW}{OFTEN}"));
    world.wait_for_state("unlocked");
    world.ask().expect("released");
    let calls = |path: &str| {
        let lines = bao.audit_log().expect("audit log");
        lines
            .lines()
            .filter(|line| line.contains("\"response\"") && line.contains(&format!("\"path\":\"{path}\"")))
            .count()
    };
    world.wait_until("renewed twice", Duration::from_secs(60), |_| {
        calls("auth/token/renew-self") >= 2
    });
    // Longer than its first life.
    std::thread::sleep(Duration::from_secs(25));
    world.systemd.start_again();
    world.ask().expect("released by the renewed token");
    assert_eq!(calls("auth/jwt/login"), 1, "{}", world.logs());

    // Without results there are no renewals.
    world.stop_verifier();
    std::thread::sleep(Duration::from_secs(3));
    let before = calls("auth/token/renew-self");
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(calls("auth/token/renew-self"), before);
}
