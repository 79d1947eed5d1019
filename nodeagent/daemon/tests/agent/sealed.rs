//! `Offline=sealed:`: a unit starts without the vault also after a reboot, and never after a no, a refusal, its time, or another boot.

use std::{fs, path::PathBuf, time::Duration};

use rempart_harness::OpenBao;
use serde_json::json;

use crate::{
    ALLOW,
    world::{VALUE, World},
};

/// A register that no policy judges, so that the node stays unlocked when it moves.
const REGISTERS: &str = "sealed_pcrs = [4, 7, 15]\n";

struct Sealed {
    world: World,
    bao: OpenBao,
    vault: String,
}

impl Sealed {
    /// Online, with a release behind it.
    async fn new(time: &str) -> Self {
        let mut world = World::new().await;
        world.tpm_words = REGISTERS.to_owned();
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\nOffline=sealed:{time}\n\
             Secret=KEY:fd=kv/web#tls_key\n"
        );
        fs::write(world.at("units/web.service"), unit).expect("write");
        let bao = OpenBao::start(&world.pki).expect("OpenBao");
        bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
        bao.role("web", &["web"]).expect("role");
        let vault = world.vault(&bao);
        world.start_agent_with(&vault, ALLOW);
        world.wait_for_state("unlocked");
        let sealed = Self { world, bao, vault };
        assert_eq!(sealed.value().expect("fresh"), VALUE.as_bytes());
        sealed
    }

    fn value(&self) -> Result<Vec<u8>, String> {
        self.world.systemd.start_again();
        let (area, items) = self.world.ask()?;
        Ok(area.as_slice()[..items[0].len].to_vec())
    }

    /// Until the node is unlocked in the next boot.
    fn reboot(&mut self) {
        self.world.reboot();
        self.world.start_agent_with(&self.vault, ALLOW);
        self.world.wait_for_state("unlocked");
    }

    fn file(&self) -> PathBuf {
        let folder = fs::read_dir(self.world.at("state/sealed/units")).expect("folder");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("entry").path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_says_so_starts_after_a_reboot_while_the_vault_is_away() {
    let mut node = Sealed::new("1h").await;
    node.bao.stop_process();
    assert_eq!(node.value().expect("in the same boot"), VALUE.as_bytes());
    node.reboot();
    let status = node.world.status();
    assert_eq!(
        (
            &status["offline"][0]["unit"],
            &status["offline"][0]["used"],
            &status["offline"][0]["sealed"]
        ),
        (&json!("web.service"), &json!(false), &json!(true))
    );
    assert_eq!(node.value().expect("after a reboot"), VALUE.as_bytes());
    assert_eq!(node.world.status()["offline"][0]["used"], true);
    let told = node.world.rempart(&["status"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("STARTED with sealed values"), "{told}");
    let log = fs::read_to_string(node.world.at("state/audit.jsonl")).expect("audit log");
    assert_eq!(log.matches("\"stale_s\":").count(), 2, "{log}");

    // Without its Verifier nobody has judged the machine that booted: nothing is released.
    node.world.reboot();
    node.world.stop_verifier();
    node.world.start_agent_with(&node.vault, ALLOW);
    assert!(node.value().expect_err("not attested").contains("not"));
    node.world.start_verifier();
    node.world.wait_for_state("unlocked");
    assert_eq!(node.value().expect("attested"), VALUE.as_bytes());

    let file = fs::read(node.file()).expect("sealed");
    let held = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes());
    assert!(!held(&file) && !held(node.world.logs().as_bytes()) && !held(log.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_no_a_copy_that_root_kept_is_dead_and_a_refusal_of_the_node_is_one() {
    let mut node = Sealed::new("1h").await;
    let file = node.file();
    let kept = fs::read(&file).expect("sealed");
    let denying = json!({"policy": "path \"kv/data/web\" { capabilities = [\"deny\"] }"});
    node.bao
        .write("sys/policies/acl/rempart-web", &denying)
        .expect("policy");
    assert!(node.value().expect_err("denied").contains("denies kv/web#tls_key"));
    assert!(!file.exists());
    node.bao.seal().expect("seal");
    fs::write(&file, &kept).expect("put back");
    assert!(node.value().expect_err("it has said no").contains("is sealed"));
    node.reboot();
    fs::write(&file, &kept).expect("put back");
    assert!(node.value().expect_err("also in the next boot").contains("is sealed"));
    assert!(node.world.logs().contains("made void since"), "{}", node.world.logs());

    // Fresh once more; then the Verifier refuses the node, and its operator clears it.
    node.bao.unseal().expect("unseal");
    node.bao.role("web", &["web"]).expect("role");
    node.value().expect("fresh");
    let kept = fs::read(&file).expect("sealed");
    node.world.install_policy(2, &"ff".repeat(32));
    node.world.attest_until(77);
    node.world.install_policy(3, &"00".repeat(32));
    node.world.clear_node();
    node.world.attest_until(0);
    node.world.wait_for_state("unlocked");
    assert!(!file.exists());
    node.bao.seal().expect("seal");
    fs::write(&file, &kept).expect("put back");
    assert!(node.value().expect_err("void by the refusal").contains("is sealed"));
    let log = fs::read_to_string(node.world.at("state/audit.jsonl")).expect("audit log");
    for name in ["web.service", "all"] {
        let entry = format!("\"change\":\"void\",\"name\":\"{name}\"");
        assert_eq!(log.matches(&entry).count(), 1, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_time_or_when_something_else_has_booted_there_is_no_copy() {
    let node = Sealed::new("8s").await;
    node.bao.seal().expect("seal");
    assert_eq!(node.value().expect("in time"), VALUE.as_bytes());
    std::thread::sleep(Duration::from_secs(9));
    assert!(node.value().expect_err("too late").contains("is sealed"));
    assert!(
        node.world.logs().contains("is over, by the TPM's clock"),
        "{}",
        node.world.logs()
    );

    let mut node = Sealed::new("1h").await;
    node.bao.seal().expect("seal");
    node.world.stop_agent();
    node.world
        .tools()
        .run("tpm2_pcrextend", &[&format!("15:sha256={}", "11".repeat(32))]);
    node.world.start_agent_with(&node.vault, ALLOW);
    node.world.wait_for_state("unlocked");
    assert!(node.value().expect_err("another boot chain").contains("is sealed"));
    assert!(
        node.world.logs().contains("booted something else"),
        "{}",
        node.world.logs()
    );
    // As it was: the copy is good again.
    node.reboot();
    assert_eq!(node.value().expect("as it was"), VALUE.as_bytes());
}
