//! A registry of a million nodes: the server answers as soon after its start as with one node, because it loads none of them.

mod support;

use std::time::{Duration, Instant};

use support::node::{attest, evidence, ready};

#[test]
fn a_million_enrolled_nodes_do_not_slow_the_start() {
    let (mut verifier, tpm, certificate) = ready();
    let timed = |verifier: &mut support::verifier::Verifier| {
        verifier.stop();
        let began = Instant::now();
        verifier.start();
        support::node::challenge(&mut verifier.connect());
        (began.elapsed(), verifier.peak_memory())
    };
    let (small, _) = timed(&mut verifier);
    verifier.stop();
    let database = rusqlite::Connection::open(verifier.path("state/registry.sqlite")).expect("registry");
    database
        .execute_batch(
            "BEGIN;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
             INSERT INTO node (name, roles) SELECT printf('node-%07d', i), 'billing' FROM n;
             INSERT INTO holder (node, ek, identity, since) SELECT name, randomblob(32), 'certified', 1 FROM node WHERE name LIKE 'node-%';
             COMMIT;",
        )
        .expect("filled");
    drop(database);
    let (large, memory) = timed(&mut verifier);
    println!("start to first answer: {small:?} with one node, {large:?} with a million, peak {memory} KiB");
    assert!(large < small + Duration::from_millis(500), "{small:?} and {large:?}");
    assert!(memory < 64 * 1024, "{memory} KiB");
    let mut client = verifier.connect();
    let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    let began = Instant::now();
    attest(&mut client, &round).expect("affirmed");
    println!("one attestation among them: {:?}", began.elapsed());
}
