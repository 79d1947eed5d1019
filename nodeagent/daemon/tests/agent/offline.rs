//! `Offline=stale:`: a unit starts without the vault when it says so, and never after a no or a lock.

use std::fs;

use rempart_harness::OpenBao;
use serde_json::json;

use crate::{
    ALLOW,
    world::{VALUE, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_says_so_starts_while_the_vault_is_away_and_not_after_a_no_or_a_lock() {
    let mut world = World::new().await;
    let unit = "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\nOffline=stale:1h\n\
                Secret=KEY:fd=kv/web#tls_key\n";
    fs::write(world.at("units/web.service"), unit).expect("write");
    let mut bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    bao.role("web", &["web"]).expect("role");
    let vault = world.vault(&bao);
    world.start_agent_with(&vault, ALLOW);
    world.wait_for_state("unlocked");
    let value = |world: &World| {
        world.systemd.start_again();
        let (area, items) = world.ask()?;
        Ok::<_, String>(area.as_slice()[..items[0].len].to_vec())
    };

    bao.seal().expect("seal");
    assert!(value(&world).expect_err("nothing is kept yet").contains("is sealed"));
    bao.unseal().expect("unseal");
    assert_eq!(value(&world).expect("fresh"), VALUE.as_bytes());
    bao.seal().expect("seal");
    assert_eq!(value(&world).expect("sealed"), VALUE.as_bytes());
    bao.unseal().expect("unseal");
    bao.stop_process();
    assert_eq!(value(&world).expect("gone"), VALUE.as_bytes());
    let status = world.status();
    assert_eq!(
        (&status["offline"][0]["unit"], &status["offline"][0]["used"]),
        (&json!("web.service"), &json!(true))
    );
    let log = fs::read_to_string(world.at("state/audit.jsonl")).expect("audit log");
    assert_eq!(
        log.matches("\"stale_s\":").count(),
        2,
        "each such release is told: {log}"
    );
    assert!(
        world.logs().contains("gets values of") && !world.logs().contains(VALUE),
        "{}",
        world.logs()
    );

    // The vault says no once, and is away again.
    bao.run_process().expect("started");
    bao.unseal().expect("unseal");
    let denying = json!({"policy": "path \"kv/data/web\" { capabilities = [\"deny\"] }"});
    bao.write("sys/policies/acl/rempart-web", &denying).expect("policy");
    assert!(value(&world).expect_err("denied").contains("denies kv/web#tls_key"));
    bao.seal().expect("seal");
    assert!(value(&world).expect_err("it has said no").contains("is sealed"));

    // Fresh once more; then the node is locked, and unlocked.
    bao.unseal().expect("unseal");
    bao.role("web", &["web"]).expect("role");
    value(&world).expect("fresh");
    world.install_policy(2, &"ff".repeat(32));
    world.attest_until(77);
    world.install_policy(3, &"00".repeat(32));
    world.clear_node();
    world.attest_until(0);
    world.wait_for_state("unlocked");
    bao.seal().expect("seal");
    assert!(value(&world).expect_err("wiped by the lock").contains("is sealed"));
}
