//! What the TPM keeps. `Offline=sealed:`: a unit starts without the vault also after a reboot, and never after a no, a refusal, its time, or
//! another boot. `[vault] kind = "tpm"`: the owner's values are there for their role, and nothing that was replaced or removed comes back.

use std::{
    fs,
    io::{Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rempart_harness::OpenBao;
use rempart_secretmem::Area;
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

const TPM: &str = "[vault]\nkind = \"tpm\"\n";

/// `rempart seal set NAME --role ROLE` with `value` on standard input.
fn set(world: &World, name: &str, role: &str, value: &[u8]) -> Output {
    let file = world.at("value");
    fs::write(&file, value).expect("write");
    let input = fs::File::open(&file).expect("open");
    let mut command = world.rempart_command(&["seal", "set", name, "--role", role]);
    command.stdin(Stdio::from(input)).output().expect("rempart runs")
}

fn served(world: &World) -> Result<Vec<u8>, String> {
    world.systemd.start_again();
    let (area, items) = world.ask()?;
    Ok(area.as_slice()[..items[0].len].to_vec())
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_tpm_keeps_are_served_to_their_role_also_after_a_reboot() {
    let mut world = World::new().await;
    world.tpm_words = REGISTERS.to_owned();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    assert!(
        served(&world)
            .expect_err("nothing is there")
            .contains("has no secret kv/web#tls_key")
    );
    assert!(said(&world.rempart(&["seal", "list"])).is_empty());

    let told = set(&world, "kv/web#tls_key", "web", VALUE.as_bytes());
    assert!(told.status.success(), "{} {}", said(&told), world.logs());
    assert_eq!(said(&told), "kv/web#tls_key sealed for role web\n");
    assert_eq!(served(&world).expect("served"), VALUE.as_bytes());
    let binary: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let told = set(&world, "kv/other#blob", "other", &binary);
    assert!(told.status.success(), "{}", said(&told));
    let listed = said(&world.rempart(&["seal", "list"]));
    assert_eq!(listed, "kv/web#tls_key  role: web\nkv/other#blob  role: other\n");

    for (name, role, value, why) in [
        ("kv/web#tls_key", "web", &b""[..], "the value is empty"),
        (
            "kv/web#tls_key",
            "web",
            &vec![0; (1 << 20) + 1][..],
            "longer than 1048576 bytes",
        ),
        ("tls_key", "web", b"x", "not of the form"),
        ("kv/web?version=1#tls_key", "web", b"x", "no parameters"),
        ("kv/web#tls_key", "no role", b"x", "no role"),
    ] {
        let told = set(&world, name, role, value);
        assert!(
            !told.status.success() && said(&told).contains(why),
            "{why}: {}",
            said(&told)
        );
        assert_eq!(said(&told).lines().count(), 1);
    }

    world.reboot();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(served(&world).expect("after a reboot"), VALUE.as_bytes());

    // A value of another role, though the Verifier grants both.
    let told = set(&world, "kv/web#tls_key", "other", b"x");
    assert!(told.status.success(), "{}", said(&told));
    assert!(
        served(&world)
            .expect_err("another role's")
            .contains("set for another one")
    );

    let log = fs::read_to_string(world.at("state/audit.jsonl")).expect("audit log");
    assert_eq!(log.matches("\"change\":\"set\"").count(), 3, "{log}");
    let file = fs::read(world.at("state/sealed/values.sealed")).expect("sealed");
    let held = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes());
    assert!(!held(&file) && !held(world.logs().as_bytes()) && !held(log.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_replaced_or_removed_does_not_come_back_by_an_old_file() {
    let mut world = World::new().await;
    world.tpm_words = REGISTERS.to_owned();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    let file = world.at("state/sealed/values.sealed");
    assert!(set(&world, "kv/web#tls_key", "web", b"old").status.success());
    let old = fs::read(&file).expect("sealed");
    assert!(set(&world, "kv/web#tls_key", "web", b"new").status.success());
    assert_eq!(served(&world).expect("served"), b"new");
    let new = fs::read(&file).expect("sealed");
    fs::write(&file, &old).expect("put back");
    assert!(served(&world).expect_err("an old one").contains("made void"));
    let listed = world.rempart(&["seal", "list"]);
    assert!(
        !listed.status.success() && said(&listed).contains("remove --all"),
        "{}",
        said(&listed)
    );
    fs::write(&file, &new).expect("put back");
    assert_eq!(served(&world).expect("the new one"), b"new");

    let removed = world.rempart(&["seal", "remove", "kv/web#other"]);
    assert!(
        !removed.status.success() && said(&removed).contains("no value kv/web#other"),
        "{}",
        said(&removed)
    );
    let removed = world.rempart(&["seal", "remove", "kv/web#tls_key"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(served(&world).expect_err("removed").contains("has no secret"));
    fs::write(&file, &new).expect("put back");
    assert!(served(&world).expect_err("an old one").contains("made void"));
    let removed = world.rempart(&["seal", "remove", "--all"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(set(&world, "kv/web#tls_key", "web", b"anew").status.success());
    assert_eq!(served(&world).expect("served"), b"anew");

    // Another boot chain, and back.
    world
        .tools()
        .run("tpm2_pcrextend", &[&format!("15:sha256={}", "11".repeat(32))]);
    assert!(
        served(&world)
            .expect_err("another boot chain")
            .contains("booted something else")
    );
    assert!(
        !set(&world, "kv/web#other", "web", b"x").status.success(),
        "the others would be lost"
    );
    world.reboot();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(served(&world).expect("as it was"), b"anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_typed_is_not_shown() {
    let mut world = World::new().await;
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    let command = world.rempart_command(&["seal", "set", "kv/web#tls_key", "--role", "web"]);
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.display()))
        .collect();
    // script(1) gives it a terminal.
    let mut terminal = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut shown = terminal.stdout.take().expect("piped");
    let mut seen = Vec::new();
    while !seen.ends_with(b"value of kv/web#tls_key: ") {
        let mut byte = [0];
        shown.read_exact(&mut byte).expect("a prompt");
        seen.extend(byte);
    }
    let mut typed = terminal.stdin.take().expect("piped");
    typed.write_all(b"typed by hand\n").expect("written");
    shown.read_to_end(&mut seen).expect("read");
    assert!(terminal.wait().expect("ended").success());
    let seen = String::from_utf8_lossy(&seen);
    assert!(
        seen.contains("sealed for role web") && !seen.contains("typed"),
        "{seen}"
    );
    assert_eq!(served(&world).expect("served"), b"typed by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_vault_or_that_is_not_unlocked_seals_no_values() {
    let mut world = World::new().await;
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    let told = set(&world, "kv/web#tls_key", "web", b"x");
    assert!(
        !told.status.success() && said(&told).contains("vault.kind"),
        "{}",
        said(&told)
    );
    world.stop_agent();
    world.stop_verifier();
    world.start_agent_with(TPM, ALLOW);
    let told = set(&world, "kv/web#tls_key", "web", b"x");
    assert!(
        !told.status.success() && !world.at("state/sealed").exists(),
        "{}",
        said(&told)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_any_server_is_judged_by_its_tpm_and_says_so() {
    let mut world = World::new().await;
    world.stop_verifier();
    world.alone = true;
    world.tpm_words = REGISTERS.to_owned();
    world.start_agent_with(TPM, ALLOW);
    let patience = Duration::from_secs(30);
    let status = world.wait_until("waiting for a value", patience, |status| {
        status["reason"]
            .as_str()
            .is_some_and(|why| why.contains("rempart seal set"))
    });
    assert_eq!(
        (&status["state"], &status["local"]),
        (&json!("attesting"), &json!(true))
    );
    assert!(served(&world).is_err());
    let told = set(&world, "kv/web#tls_key", "web", VALUE.as_bytes());
    assert!(told.status.success(), "{} {}", said(&told), world.logs());
    let status = world.wait_for_state("unlocked");
    assert_eq!(status["roles"], json!(["web"]));
    assert_eq!(status["attestation"]["tpm"]["bank"], "sha256");
    assert_eq!(served(&world).expect("served"), VALUE.as_bytes());
    let told = said(&world.rempart(&["status"]));
    assert!(told.contains("local: nobody outside has judged this machine"), "{told}");
    assert!(world.rempart(&["attest"]).status.success());

    world.reboot();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(served(&world).expect("after a reboot"), VALUE.as_bytes());

    // Something else has booted: locked, also for `rempart seal set`, until the machine boots as it did.
    world.stop_agent();
    world
        .tools()
        .run("tpm2_pcrextend", &[&format!("15:sha256={}", "11".repeat(32))]);
    world.start_agent_with(TPM, ALLOW);
    let status = world.wait_for_state("locked");
    assert_eq!(status["latched"], true);
    assert!(
        status["reason"]
            .as_str()
            .is_some_and(|why| why.contains("booted something else")),
        "{status}"
    );
    assert!(served(&world).expect_err("locked").contains("booted something else"));
    assert!(!set(&world, "kv/web#tls_key", "web", b"x").status.success());
    assert_eq!(world.rempart(&["attest"]).status.code(), Some(77));
    world.reboot();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(served(&world).expect("as it was"), VALUE.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_comes_in_secret_memory_of_its_length_or_not_at_all() {
    let mut world = World::new().await;
    world.tpm_words = REGISTERS.to_owned();
    world.start_agent_with(TPM, ALLOW);
    world.wait_for_state("unlocked");
    let proxy = world.agent_on_the_bus().await;
    // A caller's mistake, or root that wants the agent to read what is cut off under it.
    let ordinary = memfd_create(c"value", MFdFlags::empty()).expect("a memory file");
    nix::unistd::ftruncate(&ordinary, 1 << 20).expect("longer");
    let mut area = Area::create(16).expect("memfd_secret");
    area.as_mut_slice().copy_from_slice(&[b'x'; 16]);
    let secret = area.into_descriptor();
    let (page, folder) = (4096_u32, fs::File::open("/").expect("there"));
    for (length, descriptor) in [
        (16_u32, ordinary.as_fd()),
        (page + 1, secret.as_fd()),
        (0, secret.as_fd()),
        (u32::MAX, secret.as_fd()),
        (16, folder.as_fd()),
    ] {
        let arguments = ("kv/web#tls_key", "web", length, zbus::zvariant::Fd::from(descriptor));
        let told: zbus::Result<()> = proxy.call("SealSet", &arguments).await;
        let told = told.expect_err("refused").to_string();
        assert!(told.contains("InvalidArgs"), "{length}: {told}");
    }
    assert!(!world.at("state/sealed").exists(), "{}", world.logs());
    let arguments = (
        "kv/web#tls_key",
        "web",
        16_u32,
        zbus::zvariant::Fd::from(secret.as_fd()),
    );
    let _: () = proxy
        .call("SealSet", &arguments)
        .await
        .expect("sealed by the same agent");
}
