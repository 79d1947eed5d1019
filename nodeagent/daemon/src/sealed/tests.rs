use std::{fs, sync::Arc};

use rempart_backend::{BackendError, Fetched};
use rempart_core::{audit::Chain, reference::Reference};
use rempart_device::TpmOptions;

use super::*;
use crate::audit::Audit;

#[path = "../../../../attest/device/tests/common/mod.rs"]
mod swtpm;

use swtpm::Swtpm;

const HOUR: Duration = Duration::from_secs(3600);

/// A node with a TPM and a state folder; what an agent knows goes with each restart.
struct Node {
    swtpm: Swtpm,
    state: tempfile::TempDir,
    audit: Arc<Audit>,
    copies: Arc<Copies>,
}

impl Node {
    fn new() -> Self {
        let swtpm = Swtpm::start();
        let state = tempfile::tempdir().expect("folder");
        let audit = Arc::new(Audit::open(state.path()).expect("log"));
        let copies = copies(&swtpm, state.path(), &audit);
        Self {
            swtpm,
            state,
            audit,
            copies,
        }
    }

    async fn restart(&mut self) {
        // The thread that uses the TPM leaves it when it has nothing to do.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        self.copies = copies(&self.swtpm, self.state.path(), &self.audit);
    }

    async fn online(&self, unit: &str, value: &str) {
        let fetched = Fetched {
            values: vec![SecretBytes::new(value.as_bytes().to_vec())],
            leases: Vec::new(),
        };
        let wanted = kv("kv/a#b");
        let judged = self
            .copies
            .judge(unit, "web", &wanted, Some(HOUR), self.copies.epoch(), Ok(fetched));
        assert!(matches!(judged.await, Ok((_, None))));
    }

    async fn denied(&self, unit: &str) {
        let no = BackendError::Denied {
            server: "vault".into(),
            what: "kv/a#b".into(),
            role: "web".into(),
            why: "no".into(),
        };
        let wanted = kv("kv/a#b");
        let judged = self
            .copies
            .judge(unit, "web", &wanted, Some(HOUR), self.copies.epoch(), Err(no));
        assert!(matches!(judged.await, Err(BackendError::Denied { .. })));
    }

    /// What the unit gets while the vault is away.
    async fn away(&self, unit: &str) -> Option<String> {
        self.away_for(unit, "kv/a#b", HOUR).await
    }

    async fn away_for(&self, unit: &str, wanted: &str, most: Duration) -> Option<String> {
        let away = BackendError::Sealed { server: "vault".into() };
        let wanted = kv(wanted);
        let judged = self
            .copies
            .judge(unit, "web", &wanted, Some(most), self.copies.epoch(), Err(away));
        let (fetched, age) = judged.await.ok()?;
        assert!(age.is_some());
        Some(String::from_utf8_lossy(fetched.values[0].expose()).into_owned())
    }

    async fn counter(&self) -> u64 {
        self.copies.sealer.counter().await.expect("TPM").expect("defined")
    }
}

fn copies(swtpm: &Swtpm, state: &Path, audit: &Arc<Audit>) -> Arc<Copies> {
    let sealer = Sealer {
        tpm: crate::tpm::TpmLine::start(TpmOptions::new(swtpm.tcti())).expect("a thread"),
        bank: rempart_attest::Bank::Sha256,
        pcrs: vec![4, 7, 9, 12],
        index: super::super::COPIES,
    };
    Copies::new(state, sealer, audit.clone())
}

fn kv(text: &str) -> Vec<Reference> {
    vec![text.parse().expect("a reference")]
}

#[tokio::test]
async fn a_no_for_one_unit_voids_its_copy_wherever_it_is_and_leaves_the_others() {
    let mut node = Node::new();
    node.online("a.service", "of a").await;
    node.online("b.service", "of b").await;
    let of_a = node.copies.path("a.service");
    let put_aside = fs::read(&of_a).expect("sealed");
    assert_eq!(node.away("a.service").await.as_deref(), Some("of a"));
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&of_a).expect("there"));
    assert_eq!(mode & 0o777, 0o600);

    // Root takes the file away before the vault says no, and puts it back.
    fs::remove_file(&of_a).expect("removed");
    node.denied("a.service").await;
    for _ in 0..2 {
        fs::write(&of_a, &put_aside).expect("put back");
        assert_eq!(node.away("a.service").await, None);
        assert!(!of_a.exists(), "what is void is removed");
        assert_eq!(node.away("b.service").await.as_deref(), Some("of b"));
        node.restart().await;
    }
    let counter = node.counter().await;
    node.denied("a.service").await;
    assert_eq!(
        node.counter().await,
        counter + 2,
        "a new agent does not know what is void"
    );
    node.denied("a.service").await;
    assert_eq!(node.counter().await, counter + 2, "and does it once");
    assert_eq!(node.away("b.service").await.as_deref(), Some("of b"));
    let log = fs::read_to_string(node.state.path().join("audit.jsonl")).expect("log");
    assert_eq!(
        log.matches("\"change\":\"void\",\"name\":\"a.service\"").count(),
        2,
        "{log}"
    );
    Chain::replay(log.lines()).expect("whole");
}

#[tokio::test]
async fn a_power_cut_at_any_step_of_voiding_leaves_each_copy_good_once() {
    let mut node = Node::new();
    node.online("b.service", "of b").await;
    let of_b = node.copies.path("b.service");
    // Sealed to the next value, and no more.
    let counter = node.counter().await;
    node.copies.carry_over(&of_b, counter + 1).await.expect("sealed");
    assert!(of_b.with_extension(NEXT).exists());
    node.restart().await;
    assert_eq!(node.away("b.service").await.as_deref(), Some("of b"));
    assert!(!of_b.with_extension(NEXT).exists());
    // The counter has gone on as well.
    node.copies.carry_over(&of_b, counter + 1).await.expect("sealed");
    node.copies.sealer.increment().await.expect("incremented");
    node.restart().await;
    assert_eq!(node.away("b.service").await.as_deref(), Some("of b"));
    assert!(!of_b.with_extension(NEXT).exists());
}

#[tokio::test]
async fn what_was_sealed_for_an_attempt_that_came_to_nothing_does_not_outlive_a_no() {
    let node = Node::new();
    node.online("b.service", "of b").await;
    let of_b = node.copies.path("b.service");
    // A voiding of another unit's ended before the counter went on; somebody has kept the draft, and it lies there still.
    let counter = node.counter().await;
    node.copies.carry_over(&of_b, counter + 1).await.expect("sealed");
    let draft = fs::read(of_b.with_extension(NEXT)).expect("sealed");
    node.denied("b.service").await;
    assert!(!of_b.exists() && !of_b.with_extension(NEXT).exists());
    assert_eq!(node.away("b.service").await, None);
    for place in [of_b.clone(), of_b.with_extension(NEXT)] {
        fs::write(&place, &draft).expect("put back");
        assert_eq!(node.away("b.service").await, None);
    }
}

#[tokio::test]
async fn an_answer_of_before_a_no_is_not_kept_after_it() {
    let node = Node::new();
    let wanted = kv("kv/a#b");
    let since = node.copies.epoch();
    node.copies.void_all("locked").await;
    let late = Fetched {
        values: vec![SecretBytes::new(b"late".to_vec())],
        leases: Vec::new(),
    };
    let judged = node
        .copies
        .judge("a.service", "web", &wanted, Some(HOUR), since, Ok(late));
    assert!(judged.await.is_ok(), "the unit has it");
    assert_eq!(node.away("a.service").await, None);
    assert!(!node.copies.path("a.service").exists());
}

#[tokio::test]
async fn a_lock_voids_all_once_and_a_machine_that_seals_nothing_has_no_counter() {
    let node = Node::new();
    node.copies.void_all("locked").await;
    node.denied("a.service").await;
    assert_eq!(node.copies.sealer.counter().await.expect("TPM"), None);
    for unit in ["a.service", "b.service"] {
        node.online(unit, "x").await;
    }
    let kept = fs::read(node.copies.path("a.service")).expect("sealed");
    node.copies.void_all("locked").await;
    let counter = node.counter().await;
    node.copies.void_all("locked").await;
    assert_eq!(node.counter().await, counter);
    fs::write(node.copies.path("a.service"), kept).expect("put back");
    assert_eq!(node.away("a.service").await, None);
    assert_eq!(node.away("b.service").await, None);
    node.online("b.service", "anew").await;
    assert_eq!(node.away("b.service").await.as_deref(), Some("anew"));
}

#[tokio::test]
async fn damage_another_unit_another_question_and_a_shorter_time_give_nothing() {
    let node = Node::new();
    for unit in ["a.service", "b.service"] {
        node.online(unit, "x").await;
    }
    let [of_a, of_b] = ["a.service", "b.service"].map(|unit| node.copies.path(unit));
    let good = fs::read(&of_a).expect("sealed");
    fs::write(&of_b, &good).expect("written");
    assert_eq!(node.away("b.service").await, None, "another unit's file");
    // That made all void but what was carried over.
    assert_eq!(node.away("a.service").await.as_deref(), Some("x"));
    let good = fs::read(&of_a).expect("sealed");
    for at in [0, 9, 40, good.len() / 2, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        fs::write(&of_a, damaged).expect("written");
        assert_eq!(node.away("a.service").await, None, "byte {at}");
        assert!(!of_a.exists(), "byte {at}");
    }
    for cut in [0, 7, 100, good.len() - 1] {
        fs::write(&of_a, &good[..cut]).expect("written");
        assert_eq!(node.away("a.service").await, None, "cut at {cut}");
    }
    fs::write(&of_a, &good).expect("written");
    assert_eq!(node.away_for("a.service", "kv/a#b", Duration::ZERO).await, None);
    fs::write(&of_a, &good).expect("written");
    assert_eq!(node.away("a.service").await.as_deref(), Some("x"));
    assert_eq!(node.away_for("a.service", "kv/other#b", HOUR).await, None);
    fs::write(&of_a, &good).expect("written");
    assert_eq!(node.away("a.service").await, None, "it asked for something else");
}

#[test]
fn a_power_cut_may_set_the_clock_back_and_nobody_further() {
    assert_eq!(age(5000, 2000), Some(Duration::from_secs(3)));
    assert_eq!(age(2000, 5000), Some(Duration::ZERO));
    assert_eq!(age(0, LOST), Some(Duration::ZERO));
    assert_eq!(age(0, LOST + 1), None);
}
