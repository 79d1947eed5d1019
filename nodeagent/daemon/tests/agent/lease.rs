//! Secrets that end: a unit that holds some is asked to start again before the end, when that start can be served, and not otherwise.

use std::{
    fs,
    time::{Duration, Instant},
};

use rempart_harness::OpenBao;
use serde_json::json;

use crate::{ALLOW, world::World};

/// Life of a certificate, seconds. Two thirds of it, less a tenth, are the earliest time for a new start.
const LIFE: u64 = 24;
const EARLIEST: Duration = Duration::from_secs(LIFE / 2);

struct Site {
    world: World,
    bao: OpenBao,
    vault: String,
}

impl Site {
    /// A node, unlocked, whose unit gets a certificate of [`LIFE`].
    async fn new() -> Self {
        Self::with("").await
    }

    /// The same with `more` in the unit's section.
    async fn with(more: &str) -> Self {
        let mut world = World::new().await;
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\n\
             Secret=tls.key:file=pki/issue/web?common_name=w.internal&ttl={LIFE}s#private_key\n\
             Secret=tls.crt:file=pki/issue/web?common_name=w.internal&ttl={LIFE}s#certificate\n{more}"
        );
        fs::write(world.at("units/web.service"), unit).expect("write");
        let bao = OpenBao::start(&world.pki).expect("OpenBao");
        bao.role("web", &["web"]).expect("role");
        bao.bao(&["secrets", "enable", "pki"], None).expect("pki");
        let root = ["write", "pki/root/generate/internal", "common_name=test", "ttl=24h"];
        bao.bao(&root, None).expect("authority");
        let issuer = json!({
            "allowed_domains": "internal", "allow_subdomains": true, "key_type": "ec", "key_bits": 256, "not_before_duration": "1s"
        });
        bao.write("pki/roles/web", &issuer).expect("role");
        let rule = json!({"policy": "path \"pki/issue/web\" { capabilities = [\"update\"] }"});
        bao.write("sys/policies/acl/rempart-web", &rule).expect("policy");
        let vault = world.vault(&bao);
        world.start_agent_with(&vault, ALLOW);
        world.wait_for_state("unlocked");
        Self { world, bao, vault }
    }

    fn is_asked(&self) -> bool {
        self.world.at("jobs/web.service").exists()
    }

    /// How long until the unit is asked to start again.
    fn asked_within(&self, most: Duration) -> Duration {
        let begun = Instant::now();
        while !self.is_asked() {
            assert!(begun.elapsed() < most, "not asked: {}", self.world.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
        begun.elapsed()
    }

    /// What rempart-jobs and systemd do.
    fn start_again(&mut self) {
        fs::remove_file(self.world.at("jobs/web.service")).expect("a request");
        self.world.systemd.start_again();
        self.world.ask().expect("released");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_started_again_before_its_secrets_end_and_only_when_it_would_get_new_ones() {
    let mut site = Site::new().await;
    let (_, items) = site.world.ask().expect("released");
    assert_eq!(items.len(), 2);
    let waited = site.asked_within(Duration::from_secs(LIFE));
    assert!(waited >= EARLIEST, "asked after {waited:?}");
    site.start_again();
    let log = fs::read_to_string(site.world.at("state/audit.jsonl")).unwrap_or_default();
    assert!(
        log.contains("\"kind\":\"job\"") && log.contains("\"job\":\"restart\"") && log.contains("web.service"),
        "{log}"
    );

    // A vault that cannot serve the start: the service keeps what it has.
    site.bao.seal().expect("seal");
    std::thread::sleep(Duration::from_secs(LIFE));
    assert!(!site.is_asked(), "it would have got nothing");
    assert!(
        site.world.logs().contains("is not started again yet"),
        "{}",
        site.world.logs()
    );
    site.bao.unseal().expect("unseal");
    site.asked_within(Duration::from_secs(20));
    site.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_started_again_knows_which_units_it_can_serve_no_longer() {
    let mut site = Site::new().await;
    site.world.ask().expect("released");
    site.world.stop_agent();
    assert!(!site.is_asked());
    let (vault, since) = (site.vault.clone(), Instant::now());
    site.world.start_agent_with(&vault, ALLOW);
    site.world.wait_for_state("unlocked");
    site.asked_within(Duration::from_secs(25));
    assert!(since.elapsed() < Duration::from_secs(40));
    site.start_again();
    let memory = fs::read_to_string(site.world.at("state/leases.json")).expect("what it remembers");
    assert!(memory.contains("web.service"), "{memory}");

    // Its end is the end of what it holds.
    site.world.systemd.service.lock().expect("no panic").ended = true;
    let begun = Instant::now();
    while fs::read_to_string(site.world.at("state/leases.json"))
        .expect("memory")
        .contains("web.service")
    {
        assert!(begun.elapsed() < Duration::from_secs(45), "{}", site.world.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a file holds.
fn read(file: &fs::File) -> String {
    let mut text = vec![0; 1 << 16];
    let length = std::os::unix::fs::FileExt::read_at(file, &mut text, 0).expect("readable");
    text.truncate(length);
    String::from_utf8(text).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_says_so_gets_new_secrets_in_its_files_while_it_runs() {
    let mut site = Site::with("OnRotate=reload\n").await;
    let (_, _, files) = site.world.ask_and_keep().expect("released");
    let [key, certificate] = files.as_slice() else {
        panic!("two files are kept: {}", files.len())
    };
    assert_eq!(read(key), "", "the wrapper's to fill");
    site.asked_within(Duration::from_secs(LIFE));
    let request = site.world.at("jobs/web.service");
    assert_eq!(fs::read_to_string(&request).expect("a request"), "reload");
    let first = read(key);
    assert!(first.contains("PRIVATE KEY") && read(certificate).contains("BEGIN CERTIFICATE"));
    let log = fs::read_to_string(site.world.at("state/audit.jsonl")).expect("the log");
    assert_eq!(log.matches("\"kind\":\"released\"").count(), 2, "{log}");
    assert!(log.contains("\"job\":\"reload\""), "{log}");
    assert!(!log.contains("PRIVATE"), "and no value");

    // The operator need not wait for the end.
    fs::remove_file(&request).expect("seen to");
    let proxy = site.world.agent_on_the_bus().await;
    let words: Vec<String> = proxy.call("Rotate", &("web.service",)).await.expect("asked");
    assert!(words[0].contains("it is reloaded"), "{words:?}");
    site.asked_within(Duration::from_secs(8));
    let second = read(key);
    assert!(second.contains("PRIVATE KEY") && second != first);

    // A vault that is away, or says no, changes nothing and nobody is told of anything.
    fs::remove_file(&request).expect("seen to");
    site.bao.seal().expect("seal");
    let _: Vec<String> = proxy.call("Rotate", &("",)).await.expect("asked");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!request.exists());
    assert!(read(key) == second, "what it has is good until its end");
    assert!(
        site.world.logs().contains("keeps the secrets that it has for now"),
        "{}",
        site.world.logs()
    );
    site.bao.unseal().expect("unseal");
    site.asked_within(Duration::from_secs(25));
    assert!(read(key) != second);
    let unknown: zbus::Result<Vec<String>> = proxy.call("Rotate", &("other.service",)).await;
    assert!(unknown.expect_err("unknown").to_string().contains("has got no secrets"));

    // What is not any more what it was at boot gets nothing, also while it runs.
    let (third, definition) = (read(key), site.world.at("units/web.service"));
    let before = fs::read_to_string(&definition).expect("the unit");
    fs::write(&definition, format!("{before}Protect=observe\n")).expect("changed");
    fs::remove_file(&request).expect("seen to");
    let _: Vec<String> = proxy.call("Rotate", &("web.service",)).await.expect("asked");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!request.exists() && read(key) == third, "{}", site.world.logs());
    assert!(
        site.world.logs().contains("is not what it was"),
        "{}",
        site.world.logs()
    );
    fs::write(&definition, before).expect("as it was");
    site.asked_within(Duration::from_secs(15));

    // An agent that is started again has no hold on the files: the unit is started again for new ones.
    fs::remove_file(&request).expect("seen to");
    site.world.stop_agent();
    let vault = site.vault.clone();
    site.world.start_agent_with(&vault, ALLOW);
    site.world.wait_for_state("unlocked");
    site.asked_within(Duration::from_secs(25));
    assert_eq!(fs::read_to_string(&request).expect("a request"), "restart");
}
