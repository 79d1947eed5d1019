//! What every database must keep, run on each of them: SQLite in a file, and a real PostgreSQL over TLS. A case gets a fresh registry
//! and opens it as often as it wants replicas.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rempart_attest::Fixed;
use rempart_attest::policy::signature::AllowedSigners;
use rempart_harness::{Pki, Postgres};

use super::cache::{BELIEVED, Recent, Trust};
use super::postgres::Settings;
use super::*;
use crate::config::RegistryKind;
use crate::outward;

type Case = fn(RegistryKind) -> Pin<Box<dyn Future<Output = ()>>>;

const CASES: [(&str, Case); 13] = [
    ("the_first_tpm_keeps_a_name", |r| {
        Box::pin(the_first_tpm_keeps_a_name(r))
    }),
    ("of_two_replicas_that_race_one_wins", |r| {
        Box::pin(of_two_replicas_that_race_one_wins(r))
    }),
    ("adding_again_changes_roles_and_keeps_the_tpm", |r| {
        Box::pin(adding_again_changes_roles_and_keeps_the_tpm(r))
    }),
    ("a_listed_tpm_holds_its_name_at_once", |r| {
        Box::pin(a_listed_tpm_holds_its_name_at_once(r))
    }),
    ("a_pending_tpm_becomes_approved_by_its_fingerprint_only", |r| {
        Box::pin(a_pending_tpm_becomes_approved_by_its_fingerprint_only(r))
    }),
    ("a_latch_stays_until_it_is_cleared", |r| {
        Box::pin(a_latch_stays_until_it_is_cleared(r))
    }),
    ("a_policy_below_the_highest_counter_or_with_anothers_is_refused", |r| {
        Box::pin(a_policy_below_the_highest_counter_or_with_anothers_is_refused(r))
    }),
    ("two_policies_at_once_never_go_back", |r| {
        Box::pin(two_policies_at_once_never_go_back(r))
    }),
    ("a_secret_belongs_to_the_roles_it_was_last_set_for", |r| {
        Box::pin(a_secret_belongs_to_the_roles_it_was_last_set_for(r))
    }),
    ("the_history_tells_all_and_cannot_be_changed", |r| {
        Box::pin(the_history_tells_all_and_cannot_be_changed(r))
    }),
    ("what_is_to_be_revoked_waits_until_it_is_told", |r| {
        Box::pin(what_is_to_be_revoked_waits_until_it_is_told(r))
    }),
    ("nodes_are_listed_by_pages_with_when_they_were_seen", |r| {
        Box::pin(nodes_are_listed_by_pages_with_when_they_were_seen(r))
    }),
    ("another_replica_learns_in_time", |r| {
        Box::pin(another_replica_learns_in_time(r))
    }),
];

#[tokio::test]
async fn sqlite_keeps_every_promise() {
    for (name, case) in CASES {
        let dir = tempfile::tempdir().expect("dir");
        println!("sqlite: {name}");
        case(RegistryKind::Sqlite(dir.path().join("registry.sqlite"))).await;
    }
}

#[tokio::test]
async fn postgresql_keeps_every_promise() {
    let pki = Pki::open().expect("certificates");
    let server = Postgres::start(&pki).expect("PostgreSQL");
    for (at, (name, case)) in CASES.into_iter().enumerate() {
        println!("postgresql: {name}");
        case(database(&server, &pki.ca(), &format!("registry{at}"))).await;
    }
}

/// A fresh database of a login of its own, by TLS.
fn database(server: &Postgres, ca: &Path, name: &str) -> RegistryKind {
    server.login(name, "it's secret").expect("login");
    server
        .sql(&format!("create database {name} owner {name}"))
        .expect("database");
    RegistryKind::Postgres(Box::new(Settings {
        server: settings(server.port(), name),
        tls: Some(outward::tls(ca).expect("TLS")),
    }))
}

fn settings(port: u16, name: &str) -> tokio_postgres::Config {
    let mut settings: tokio_postgres::Config = format!("postgresql://{name}@localhost:{port}/{name}")
        .parse()
        .expect("url");
    settings.password("it's secret");
    settings
}

#[tokio::test]
async fn postgresql_is_not_spoken_to_without_tls_or_under_another_authority() {
    let pki = Pki::open().expect("certificates");
    let server = Postgres::start(&pki).expect("PostgreSQL");
    let RegistryKind::Postgres(good) = database(&server, &pki.ca(), "tls") else {
        unreachable!("a server was asked for");
    };
    let open = |settings| async move {
        Registry::open(&RegistryKind::Postgres(Box::new(settings)))
            .await
            .map(drop)
    };
    open(Settings::clone(&good))
        .await
        .expect("TLS 1.3 under the right authority");
    let dir = tempfile::tempdir().expect("dir");
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
    std::fs::write(dir.path().join("ca.pem"), stranger.cert.pem()).expect("written");
    let tls = Some(outward::tls(&dir.path().join("ca.pem")).expect("TLS"));
    let refused = open(Settings {
        tls,
        ..Settings::clone(&good)
    })
    .await
    .expect_err("another authority");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // This server takes no login without TLS, so the password was not sent either.
    assert!(open(Settings { tls: None, ..*good }).await.is_err());
    assert!(server.log().contains("no encryption"), "{}", server.log());
}

const ACT: Act<'static> = Act {
    who: "operator:test",
    at: 7,
    vault: true,
};

async fn open(kind: &RegistryKind) -> Registry {
    Registry::open(kind).await.expect("opens")
}

fn ek(byte: u8, identity: &str) -> EnrolledEk {
    EnrolledEk {
        fingerprint: Fixed([byte; 32]),
        identity: identity.into(),
        since: 5,
    }
}

/// Nobody's: these registries hold no policy that anybody judges by.
const SIGNER: &str =
    "a@example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti a@example\n";

fn stored(text: &str) -> StoredPolicy {
    StoredPolicy {
        text: text.into(),
        signatures: format!("signatures over {text}"),
        signers: "s".into(),
        since: 1,
    }
}

async fn add(registry: &Registry, name: &str, roles: &[&str]) {
    let roles: Vec<String> = roles.iter().map(|&role| role.into()).collect();
    registry.add_node(name, &roles, None, &ACT).await.expect("added");
}

async fn read(registry: &Registry, name: &str) -> Node {
    registry.node(name).await.expect("reads").expect("is there")
}

async fn the_first_tpm_keeps_a_name(kind: RegistryKind) {
    let registry = open(&kind).await;
    let (first, second) = (ek(1, CERTIFIED), ek(2, CERTIFIED));
    let unknown = registry.bind_ek("n", &first, &ACT).await;
    assert!(matches!(unknown, Err(RegistryError::UnknownNode(_))));
    add(&registry, "n", &["web"]).await;
    registry.bind_ek("n", &first, &ACT).await.expect("bound");
    registry.bind_ek("n", &first, &ACT).await.expect("the same one again");
    let taken = registry.bind_ek("n", &second, &ACT).await;
    assert!(matches!(taken, Err(RegistryError::NameTaken { .. })));
    assert_eq!(read(&registry, "n").await.ek, Some(first));
    registry.remove_node("n", &ACT).await.expect("removed");
    add(&registry, "n", &[]).await;
    registry.bind_ek("n", &second, &ACT).await.expect("free again");
}

async fn of_two_replicas_that_race_one_wins(kind: RegistryKind) {
    let (left, right) = (open(&kind).await, open(&kind).await);
    for round in 0..20 {
        let name = format!("n{round}");
        add(&left, &name, &[]).await;
        let (one, two) = (ek(1, CERTIFIED), ek(2, CERTIFIED));
        let (a, b) = tokio::join!(left.bind_ek(&name, &one, &ACT), right.bind_ek(&name, &two, &ACT));
        let won = match (&a, &b) {
            (Ok(()), Err(RegistryError::NameTaken { holder, .. })) => (one.fingerprint, *holder),
            (Err(RegistryError::NameTaken { holder, .. }), Ok(())) => (two.fingerprint, *holder),
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(won.0, won.1, "the loser is told who won");
        for replica in [&left, &right] {
            assert_eq!(read(replica, &name).await.ek.map(|ek| ek.fingerprint), Some(won.0));
        }
        let enrolled = left.history_after(0, &name).await.expect("reads");
        assert_eq!(enrolled.iter().filter(|e| e.what == what::ENROLLED).count(), 1);
    }
}

async fn adding_again_changes_roles_and_keeps_the_tpm(kind: RegistryKind) {
    let registry = open(&kind).await;
    add(&registry, "n", &["web", "billing"]).await;
    registry.bind_ek("n", &ek(1, CERTIFIED), &ACT).await.expect("bound");
    add(&registry, "n", &["web"]).await;
    let node = read(&registry, "n").await;
    assert_eq!((node.roles, node.ek), (vec!["web".into()], Some(ek(1, CERTIFIED))));
    registry.remove_node("n", &ACT).await.expect("removed");
    assert_eq!(registry.node("n").await.expect("reads"), None);
    assert!(registry.remove_node("n", &ACT).await.is_err());
}

async fn a_listed_tpm_holds_its_name_at_once(kind: RegistryKind) {
    let registry = open(&kind).await;
    let listed = ek(1, LISTED);
    registry.add_node("n", &[], Some(&listed), &ACT).await.expect("added");
    registry
        .add_node("n", &[], Some(&listed), &ACT)
        .await
        .expect("added again");
    let other = registry.add_node("n", &[], Some(&ek(2, LISTED)), &ACT).await;
    assert!(matches!(other, Err(RegistryError::NameTaken { .. })));
    assert_eq!(read(&registry, "n").await.ek, Some(listed));
}

async fn a_pending_tpm_becomes_approved_by_its_fingerprint_only(kind: RegistryKind) {
    let registry = open(&kind).await;
    add(&registry, "n", &[]).await;
    let (first, other) = (ek(1, PENDING), Fixed([2; 32]));
    assert!(
        registry.approve("n", &first.fingerprint, &ACT).await.is_err(),
        "nothing there yet"
    );
    registry.bind_ek("n", &first, &ACT).await.expect("bound");
    assert_eq!(
        read(&registry, "n").await.ek.map(|ek| ek.identity),
        Some(PENDING.into())
    );
    let wrong = registry.approve("n", &other, &ACT).await;
    assert!(matches!(wrong, Err(RegistryError::NothingPending(_))));
    registry.approve("n", &first.fingerprint, &ACT).await.expect("approved");
    assert_eq!(
        read(&registry, "n").await.ek.map(|ek| ek.identity),
        Some("approved".into())
    );
    assert!(
        registry.approve("n", &first.fingerprint, &ACT).await.is_err(),
        "nothing waits any more"
    );
    // A name that is given free takes its approval with it.
    registry.remove_node("n", &ACT).await.expect("removed");
    add(&registry, "n", &[]).await;
    registry.bind_ek("n", &first, &ACT).await.expect("bound");
    assert_eq!(
        read(&registry, "n").await.ek.map(|ek| ek.identity),
        Some(PENDING.into())
    );
}

async fn a_latch_stays_until_it_is_cleared(kind: RegistryKind) {
    let registry = open(&kind).await;
    assert!(!registry.latch("n", "PCR 9", &ACT).await.expect("no such node"));
    add(&registry, "n", &[]).await;
    assert!(matches!(
        registry.clear("n", &ACT).await,
        Err(RegistryError::NotLatched(_))
    ));
    assert!(registry.latch("n", "PCR 9", &ACT).await.expect("latched"));
    assert!(
        !registry.latch("n", "PCR 12", &ACT).await.expect("already"),
        "the first reason stays"
    );
    let latch = read(&registry, "n").await.latch.expect("latched");
    assert_eq!((latch.reason.as_str(), latch.since), ("PCR 9", 7));
    add(&registry, "n", &["web"]).await;
    assert!(
        read(&registry, "n").await.latch.is_some(),
        "other roles do not clear it"
    );
    registry.clear("n", &ACT).await.expect("cleared");
    assert_eq!(read(&registry, "n").await.latch, None);
    assert!(matches!(
        registry.clear("m", &ACT).await,
        Err(RegistryError::UnknownNode(_))
    ));
}

async fn a_policy_below_the_highest_counter_or_with_anothers_is_refused(kind: RegistryKind) {
    let registry = open(&kind).await;
    assert_eq!(registry.policy().await.expect("reads"), None);
    registry
        .install_policy(&stored("three"), 3, &ACT)
        .await
        .expect("installed");
    registry
        .install_policy(&stored("three"), 3, &ACT)
        .await
        .expect("the same once more");
    let refused = registry.install_policy(&stored("another"), 3, &ACT).await;
    assert!(matches!(refused, Err(RegistryError::CounterUsed(3))));
    let refused = registry.install_policy(&stored("two"), 2, &ACT).await;
    assert!(matches!(refused, Err(RegistryError::Rollback(_))));
    assert_eq!(registry.policy().await.expect("reads"), Some(stored("three")));
}

async fn two_policies_at_once_never_go_back(kind: RegistryKind) {
    let (left, right) = (open(&kind).await, open(&kind).await);
    for counter in (2..40).step_by(2) {
        let (low, high) = (stored("low"), stored("high"));
        let (_may_fail, high) = tokio::join!(
            left.install_policy(&low, counter, &ACT),
            right.install_policy(&high, counter + 1, &ACT)
        );
        high.expect("the higher one is always accepted");
        assert_eq!(
            left.policy().await.expect("reads"),
            Some(stored("high")),
            "counter {counter}"
        );
    }
}

async fn a_secret_belongs_to_the_roles_it_was_last_set_for(kind: RegistryKind) {
    let registry = open(&kind).await;
    let set = [("web".to_owned(), vec![1]), ("billing".to_owned(), vec![0, 0xff])];
    registry.set_secret("kv/a#b", &set, &ACT).await.expect("set");
    registry.set_secret("kv/a#b", &set[1..], &ACT).await.expect("set");
    assert_eq!(registry.secret("kv/a#b", "web").await.expect("reads"), None);
    assert_eq!(
        registry.secret("kv/a#b", "billing").await.expect("reads"),
        Some(vec![0, 0xff])
    );
    assert_eq!(
        registry.secrets().await.expect("reads"),
        [("kv/a#b".into(), "billing".into())]
    );
    registry.remove_secret("kv/a#b", &ACT).await.expect("removed");
    assert!(registry.remove_secret("kv/a#b", &ACT).await.is_err());
}

async fn the_history_tells_all_and_cannot_be_changed(kind: RegistryKind) {
    let registry = open(&kind).await;
    add(&registry, "n", &["web"]).await;
    registry.bind_ek("n", &ek(1, PENDING), &ACT).await.expect("bound");
    registry.approve("n", &Fixed([1; 32]), &ACT).await.expect("approved");
    registry.install_policy(&stored("p"), 1, &ACT).await.expect("installed");
    assert!(registry.latch("n", "PCR 9", &ACT).await.expect("latched"));
    registry.clear("n", &ACT).await.expect("cleared");
    let statements = [
        "UPDATE history SET who = 'nobody'",
        "DELETE FROM history",
        "UPDATE policy SET counter = 0",
        "DELETE FROM policy",
        "UPDATE holder SET identity = 'certified'",
    ];
    for sql in statements {
        let step = database::Step::may(sql, vec![]);
        assert!(registry.database.write(vec![step]).await.is_err(), "{sql}");
    }
    registry.remove_node("n", &ACT).await.expect("removed");
    let told: Vec<String> = registry
        .history_after(0, "")
        .await
        .expect("reads")
        .into_iter()
        .map(|entry| {
            assert_eq!((entry.who.as_str(), entry.at), (ACT.who, ACT.at));
            entry.what
        })
        .collect();
    let all = [
        what::ADDED,
        what::ENROLLED,
        what::APPROVED,
        what::POLICY,
        what::LATCHED,
        what::CLEARED,
        what::REMOVED,
    ];
    assert_eq!(told, all);
    assert_eq!(registry.history_after(0, "n").await.expect("reads").len(), 6);
    assert!(registry.remove_node("n", &ACT).await.is_err());
    assert_eq!(
        registry.history_after(0, "n").await.expect("reads").len(),
        6,
        "what failed is not told"
    );
}

async fn what_is_to_be_revoked_waits_until_it_is_told(kind: RegistryKind) {
    let registry = open(&kind).await;
    let waiting = async || {
        let pending = registry.pending().await.expect("reads");
        pending.into_iter().map(|p| p.node).collect::<Vec<_>>()
    };
    add(&registry, "n", &[]).await;
    assert!(waiting().await.is_empty(), "a new name was never disabled");
    assert!(registry.latch("n", "PCR 9", &ACT).await.expect("latched"));
    let first = registry.pending().await.expect("reads").remove(0);
    registry.clear("n", &ACT).await.expect("cleared");
    registry.told(&first).await.expect("told");
    assert_eq!(waiting().await, ["n"], "what was queued again meanwhile stays");
    let second = registry.pending().await.expect("reads").remove(0);
    registry
        .postpone(&second, Duration::from_millis(300))
        .await
        .expect("postponed");
    assert!(waiting().await.is_empty(), "not due");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(waiting().await, ["n"], "due again");
    registry.told(&second).await.expect("told");
    assert!(waiting().await.is_empty());
    registry.remove_node("n", &ACT).await.expect("removed");
    assert_eq!(waiting().await, ["n"]);
    let third = registry.pending().await.expect("reads").remove(0);
    registry.told(&third).await.expect("told");
    add(&registry, "n", &[]).await;
    assert_eq!(waiting().await, ["n"], "a name that comes back may log in again");

    for number in 0..40 {
        registry
            .add_accessor("n", &format!("a{number:02}"))
            .await
            .expect("kept");
    }
    registry.add_accessor("n", "a39").await.expect("kept once");
    let kept = registry.accessors("n").await.expect("reads");
    assert_eq!(
        (kept.len(), kept.first().map(String::as_str)),
        (32, Some("a08")),
        "the oldest went"
    );
    registry.forget_accessor("n", "a08").await.expect("forgotten");
    assert_eq!(registry.accessors("n").await.expect("reads").len(), 31);
}

async fn nodes_are_listed_by_pages_with_when_they_were_seen(kind: RegistryKind) {
    let registry = open(&kind).await;
    for number in 0..1005 {
        let step = database::Step::may(
            "INSERT INTO node (name, roles) VALUES ($1, $2)",
            vec![format!("n{number:04}").as_str().into(), "web".into()],
        );
        assert_eq!(
            registry.database.write(vec![step]).await.expect("added"),
            database::Written::All
        );
    }
    let seen = Seen {
        at: 9,
        outcome: "affirming".into(),
    };
    let noted = ["n0001", "n0001", "gone"].map(|name| (name.to_owned(), seen.clone()));
    registry.saw(noted.into()).await.expect("written");
    let first = registry.nodes_after("").await.expect("reads");
    assert_eq!(
        (first.len(), &first[1].seen, &first[2].seen),
        (1000, &Some(seen), &None)
    );
    let second = registry.nodes_after(&first[999].name).await.expect("reads");
    assert_eq!(second.len(), 5);
    assert!(registry.nodes_after(&second[4].name).await.expect("reads").is_empty());
}

async fn another_replica_learns_in_time(kind: RegistryKind) {
    let (here, there) = (Arc::new(open(&kind).await), open(&kind).await);
    add(&there, "n", &["web"]).await;
    add(&there, "m", &["web"]).await;
    let nobody = Trust {
        signers: AllowedSigners::parse(SIGNER).expect("one signer"),
        required: 1,
    };
    let recent = Arc::new(Recent::new(here, nobody));
    let following = tokio::spawn(recent.clone().follow());
    let roles = async |name| recent.node(name).await.expect("reads").map(|node| node.roles.clone());
    assert_eq!(roles("n").await, Some(vec!["web".into()]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(roles("m").await, Some(vec!["web".into()]));

    there.remove_node("n", &ACT).await.expect("removed");
    assert!(there.latch("m", "PCR 9", &ACT).await.expect("latched"));
    let began = Instant::now();
    while roles("n").await.is_some() || recent.node("m").await.expect("reads").is_none_or(|m| m.latch.is_none()) {
        assert!(began.elapsed() < BELIEVED, "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("  another replica knew after {:?}", began.elapsed());

    // A feed that is silent makes what is kept worthless.
    assert_eq!(roles("m").await, Some(vec!["web".into()]));
    following.abort();
    there.remove_node("m", &ACT).await.expect("removed");
    tokio::time::sleep(BELIEVED + Duration::from_millis(100)).await;
    assert_eq!(roles("m").await, None);
}
