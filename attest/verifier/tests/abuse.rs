//! Bad input costs whoever sends it an error and the Verifier next to nothing: each case is answered by a quick 4xx (or the end of the
//! connection before there is a request), and the peak memory of the process is read before and after.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rempart_attest::{Blob, api, limits};
use support::client::Client;
use support::node::{attest, bind, challenge, checks, evidence, ready, ready_with};
use support::verifier::{Setup, Verifier};

/// What one bad request may cost at its peak, KiB: an Evidence at its maximum three times over (received, decoded, logs parsed).
const COST: u64 = 3 * limits::EVIDENCE as u64 / 1024;
const QUICK: Duration = Duration::from_secs(2);

/// Runs `work`; gives what it gave, its time, and by how much the peak of memory rose, KiB.
fn cost<T>(verifier: &Verifier, work: impl FnOnce() -> T) -> (T, Duration, u64) {
    let (before, began) = (verifier.peak_memory(), Instant::now());
    let out = work();
    (out, began.elapsed(), verifier.peak_memory().saturating_sub(before))
}

fn quick_and_cheap(what: &str, time: Duration, memory: u64) {
    println!("{what}: {time:?}, peak + {memory} KiB");
    assert!(time < QUICK, "{what}: {time:?}");
    assert!(memory <= COST, "{what}: {memory} KiB");
}

#[test]
fn a_body_of_100_megabytes_is_refused_before_it_is_read() {
    let (verifier, _, _) = ready();
    for path in [
        api::ATTEST,
        api::CHALLENGE,
        api::ENROL,
        api::SECRETS,
        api::ACCESSOR,
        api::WATCH,
    ] {
        let ((status, sent), time, memory) = cost(&verifier, || {
            let mut client = verifier.connect();
            client.begin(&format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n"
            ));
            let chunk = vec![0xa5; 64 * 1024];
            let sent = (0..1600).take_while(|_| client.more(&chunk)).count();
            (client.answer().map(|(status, _)| status), sent)
        });
        assert!(matches!(status, Some(413) | None), "{path}: {status:?}");
        assert!(sent < 1600, "{path}: all of it was taken");
        quick_and_cheap(&format!("100 MB to {path}"), time, memory);
    }
    // Without an announced length it is read up to the maximum and no further.
    let (status, time, memory) = cost(&verifier, || {
        let mut client = verifier.connect();
        client.begin(&format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
            api::ATTEST
        ));
        let chunk = [b"10000\r\n".as_slice(), &[0xa5; 65536], b"\r\n"].concat();
        let _sent = (0..1600).take_while(|_| client.more(&chunk)).count();
        client.answer().map(|(status, _)| status)
    });
    assert!(matches!(status, Some(413) | None), "{status:?}");
    quick_and_cheap("100 MB in chunks", time, memory);
    let (status, _) = verifier
        .connect()
        .raw("POST", api::CHALLENGE, &vec![b' '; limits::JSON_BODY + 1]);
    assert_eq!(status, 413, "one byte more than a JSON body may have");
    assert_eq!(
        verifier.connect().raw("POST", api::CHALLENGE, b"{}").0,
        200,
        "and it serves on"
    );
}

#[test]
fn malformed_and_nested_cbor_and_json_are_refused() {
    let (verifier, _, _) = ready();
    let deep = |byte: u8, count: usize| vec![byte; count];
    let claims_much = [b"\xbf\x65quote".as_slice(), b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff"].concat();
    let bad: [(&str, Vec<u8>); 8] = [
        ("rubbish", b"rubbish".to_vec()),
        ("nothing", vec![]),
        ("arrays in arrays", deep(0x81, limits::EVIDENCE - 1)),
        ("maps in maps", deep(0xa1, limits::EVIDENCE - 1)),
        ("tags on tags", deep(0xc6, limits::EVIDENCE - 1)),
        ("a string of 2^63 bytes", claims_much),
        (
            "an array of 2^64 entries",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        ),
        (
            "an endless string",
            [b"\x5f".as_slice(), &deep(0x40, 1_000_000)].concat(),
        ),
    ];
    for (what, body) in bad {
        let (status, time, memory) = cost(&verifier, || verifier.connect().raw("POST", api::ATTEST, &body).0);
        assert_eq!(status, 400, "{what}");
        quick_and_cheap(what, time, memory);
    }
    let nested = "[".repeat(limits::JSON_BODY - 1);
    assert_eq!(verifier.connect().raw("POST", api::ENROL, nested.as_bytes()).0, 400);
    assert_eq!(
        verifier.connect().raw("POST", api::CHALLENGE, br#"{"colour":1}"#).0,
        400
    );
    assert_eq!(verifier.connect().raw("GET", "/v1/nothing", b"").0, 404);
    assert_eq!(verifier.connect().raw("GET", api::ATTEST, b"").0, 405);
}

#[test]
fn a_million_events_are_refused() {
    let (verifier, tpm, certificate) = ready();
    // As many smallest events as a log may have bytes; a million do not fit into it.
    let event = |count: usize| {
        let head = support::tpm::UEFI_LOG;
        let one = [&[4, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0][..], &[0; 32], &[0; 4]].concat();
        [head, &one.repeat(count)].concat()
    };
    let mut client = verifier.connect();
    for (what, count) in [("as many events as fit", 20_000), ("a million events", 1_000_000)] {
        let mut round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
        round.evidence.tpm.uefi_log = Blob(event(count));
        let body = round.evidence.to_cbor();
        let (status, time, memory) = cost(&verifier, || {
            let mut client = verifier.connect();
            client.begin(&format!(
                "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
                api::ATTEST,
                body.len()
            ));
            body.chunks(65536).all(|chunk| client.more(chunk));
            client.answer().map(|(status, _)| status)
        });
        assert!(matches!(status, Some(400 | 403 | 413) | None), "{what}: {status:?}");
        quick_and_cheap(what, time, memory);
    }
    // Authentic and over-long: refused with its reason (and this one is drift).
    let mut round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
    round.evidence.tpm.uefi_log = Blob(event(5000));
    let refusal = attest(&mut client, &round).expect_err("too many");
    assert_eq!(checks(&refusal.findings)[0], ("uefi-log", None), "{refusal:?}");
}

#[test]
fn whoever_dawdles_loses_the_connection() {
    let (verifier, _, _) = ready();
    std::thread::scope(|scope| {
        // Bytes that come singly in a body.
        scope.spawn(|| {
            let began = Instant::now();
            let mut client = verifier.connect();
            client.begin(&format!(
                "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n",
                api::ATTEST
            ));
            client.more(b"x");
            let (status, _) = client.answer().expect("told");
            assert_eq!(status, 408);
            assert!(began.elapsed() < Duration::from_secs(8), "body: {:?}", began.elapsed());
        });
        // A head that never ends.
        scope.spawn(|| {
            let began = Instant::now();
            let mut client = verifier.connect();
            client.begin("POST /v1/attest HTTP/1.1\r\nhost: loc");
            let answer = client.answer().map(|(status, _)| status);
            assert!(matches!(answer, Some(408) | None), "{answer:?}");
            assert!(began.elapsed() < Duration::from_secs(35), "head: {:?}", began.elapsed());
        });
        // A handshake that never begins.
        scope.spawn(|| {
            let began = Instant::now();
            let mut stream = TcpStream::connect(("127.0.0.1", verifier.port())).expect("connects");
            stream.write_all(&[0x16, 3, 1]).expect("sent");
            assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "handshake: {:?}",
                began.elapsed()
            );
        });
        // Three hundred of them keep nobody out and cost little.
        let (_, time, memory) = cost(&verifier, || {
            let slow: Vec<Client> = (0..300)
                .map(|_| {
                    let mut client = verifier.connect();
                    client.begin(&format!(
                        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\nx",
                        api::ATTEST
                    ));
                    client
                })
                .collect();
            let began = Instant::now();
            challenge(&mut verifier.connect());
            assert!(began.elapsed() < QUICK);
            slow.len()
        });
        println!("300 slow senders: {time:?}, peak + {memory} KiB");
        assert!(memory < 300 * 150, "{memory} KiB");
    });
}

#[test]
fn a_source_that_asks_too_often_is_told_when_to_come_back_and_a_node_has_its_own_part() {
    let limits =
        "\n[limits]\nsource_per_second = 1\nsource_burst = 60\nconnections_per_source = 8\nnode_per_minute = 3\n";
    let (verifier, tpm, certificate) = ready_with(Setup {
        more: limits.into(),
        ..Setup::default()
    });
    let mut client = verifier.connect();
    // One enrolment was this node's first of three.
    for left in [true, true, false] {
        let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
        let (status, answer) = client.raw("POST", api::ATTEST, &round.evidence.to_cbor());
        assert_eq!(status == 200, left, "{}", String::from_utf8_lossy(&answer));
        assert!(left || status == 429);
    }
    let held: Vec<_> = (0..7).map(|_| verifier.connect()).collect();
    assert!(
        verifier.connect_with(&[&rustls::version::TLS13]).is_err(),
        "the ninth connection"
    );
    drop(held);
    let told = (0..70).any(|_| client.raw("POST", api::CHALLENGE, b"{}").0 == 429);
    assert!(told, "seventy at once");
    assert!(
        verifier.connect_with(&[&rustls::version::TLS13]).is_err(),
        "nor is a new connection served"
    );
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        verifier.connect().raw("POST", api::CHALLENGE, b"{}").0,
        200,
        "after a pause it may"
    );
}

#[test]
fn only_tls_1_3_is_spoken_and_the_hybrid_key_exchange_is_taken() {
    let (verifier, tpm, certificate) = ready();
    assert!(verifier.connect_with(&[&rustls::version::TLS12]).is_err());
    assert_eq!(verifier.connect().group, "X25519MLKEM768");
    // One that cannot is served all the same.
    let mut old = Client::connect_without_hybrid(verifier.port(), verifier.root());
    assert_eq!(old.group, "X25519");
    let given = challenge(&mut old);
    let round = bind(&given, &old.exporter, &tpm, "demo-1", &certificate, None);
    attest(&mut old, &round).expect("affirmed");
}
