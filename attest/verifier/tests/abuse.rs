//! Bad input costs whoever sends it an error and the Verifier next to nothing: each case is answered by a quick 4xx that its sender can
//! read, and the peak memory of the process is read before and after. Only what is no request yet (a handshake, silence) gets no answer.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rempart_attest::api::Refusal;
use rempart_attest::eventlog::ima::ImaRule;
use rempart_attest::testing::{Entry, Template};
use rempart_attest::{Blob, TpmEvidence, api, limits};
use support::client::Client;
use support::node::{attest, bind, challenge, checks, evidence, ready, ready_with};
use support::verifier::{Setup, Verifier, policy};

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

/// Sends 100 MB in pieces of 64 KiB, to its end or until an answer is there; gives the answer's status and the pieces sent.
fn send_much(client: &mut Client, piece: &[u8], patient: bool) -> (Option<u16>, usize) {
    let more = |client: &mut Client| (patient || !client.is_answered()) && client.more(piece);
    let sent = (0..PIECES).take_while(|_| more(client)).count();
    (client.answer().map(|(status, _)| status), sent)
}

/// 100 MB in pieces of 64 KiB.
const PIECES: usize = 1600;

#[test]
fn a_body_of_100_megabytes_is_refused_before_it_is_read() {
    let (verifier, _, _) = ready();
    let piece = vec![0xa5; 64 * 1024];
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
            send_much(&mut client, &piece, false)
        });
        assert_eq!(status, Some(413), "{path}");
        assert!(sent < PIECES / 2, "{path}: told after {sent} pieces");
        quick_and_cheap(&format!("100 MB to {path}"), time, memory);
    }
    // One that looks for an answer only when everything is sent is told too.
    let ((status, sent), time, memory) = cost(&verifier, || {
        let mut client = verifier.connect();
        client.begin(&format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n",
            api::ATTEST
        ));
        send_much(&mut client, &piece, true)
    });
    assert_eq!((status, sent), (Some(413), PIECES), "sent to the end");
    println!("100 MB sent to the end: {time:?}, peak + {memory} KiB");
    assert!(memory <= COST, "{memory} KiB");
    // Without an announced length it is read up to the maximum and no further.
    let ((status, sent), time, memory) = cost(&verifier, || {
        let mut client = verifier.connect();
        client.begin(&format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
            api::ATTEST
        ));
        let chunk = [b"10000\r\n".as_slice(), &piece, b"\r\n"].concat();
        send_much(&mut client, &chunk, false)
    });
    assert_eq!(status, Some(413), "in chunks");
    assert!(sent < PIECES / 2, "in chunks: told after {sent} pieces");
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

/// A log that is made of one event over and over: where it stands in the Evidence, and what refuses as many as it may have bytes for.
struct Flood {
    what: &'static str,
    head: Vec<u8>,
    event: Vec<u8>,
    max: usize,
    log: fn(&mut TpmEvidence) -> &mut Blob,
    check: &'static str,
}

impl Flood {
    fn all() -> [Self; 3] {
        let digest = "00".repeat(32);
        [
            Self {
                what: "firmware's log",
                head: support::tpm::UEFI_LOG.to_vec(),
                event: [&[4, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0][..], &[0; 32], &[0; 4]].concat(),
                max: limits::UEFI_LOG,
                log: |tpm| &mut tpm.uefi_log,
                check: "uefi-log",
            },
            Self {
                what: "systemd's log",
                head: vec![],
                event: format!("\u{1e}{{\"pcr\":11,\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}]}}")
                    .into_bytes(),
                max: limits::USERSPACE_LOG,
                log: |tpm| &mut tpm.userspace_log,
                check: "event-log",
            },
            Self {
                what: "IMA's list",
                head: vec![],
                event: Entry {
                    template: Template::Ima,
                    digest: vec![0; 20],
                    ..Entry::file("f", b"")
                }
                .record(),
                max: limits::IMA_LOG,
                log: |tpm| &mut tpm.ima_log,
                check: "ima-log",
            },
        ]
    }

    /// A log of `count` events.
    fn log(&self, count: usize) -> Blob {
        Blob([self.head.as_slice(), &self.event.repeat(count)].concat())
    }
}

#[test]
fn a_million_events_are_refused() {
    let (verifier, tpm, certificate) = ready();
    // Without a measurement in PCR 10 nobody would read the list.
    tpm.extend(10, &"ab".repeat(32));
    let mut judges_ima = policy(&tpm.pcrs(), 4);
    judges_ima.images[0].ima = Some(ImaRule::default());
    let file = verifier.sign(&judges_ima, "owner", "rempart-policy");
    verifier.change(&["policy", "install", &file]);
    let send = |body: &[u8]| {
        let mut client = verifier.connect();
        client.begin(&format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            api::ATTEST,
            body.len()
        ));
        body.chunks(65536)
            .all(|chunk| !client.is_answered() && client.more(chunk));
        client.answer()
    };
    for flood in Flood::all() {
        let mut client = verifier.connect();
        let mut round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
        // A million: the size alone.
        *(flood.log)(&mut round.evidence.tpm) = flood.log(1_000_000);
        let body = round.evidence.to_cbor();
        let (answer, time, memory) = cost(&verifier, || send(&body));
        assert_eq!(answer.map(|(status, _)| status), Some(413), "{}", flood.what);
        quick_and_cheap(&format!("a million events in {}", flood.what), time, memory);
        // As many as the log may have bytes, in authentic Evidence: refused with the reason, and that is drift.
        let count = (flood.max - flood.head.len()) / flood.event.len();
        *(flood.log)(&mut round.evidence.tpm) = flood.log(count);
        let body = round.evidence.to_cbor();
        let (answer, time, memory) = cost(&verifier, || {
            client.begin(&format!(
                "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
                api::ATTEST,
                body.len()
            ));
            client.more(&body);
            client.answer()
        });
        let (status, answer) = answer.expect("told");
        assert_eq!(status, 403, "{}", flood.what);
        let refusal: Refusal = serde_json::from_slice(&answer).expect("a refusal");
        let told = checks(&refusal.findings);
        assert!(
            told.iter().any(|(check, _)| *check == flood.check),
            "{}: {told:?}",
            flood.what
        );
        assert!(refusal.latched, "{}", flood.what);
        quick_and_cheap(&format!("{count} events in {}", flood.what), time, memory);
        verifier.change(&["node", "clear", "demo-1"]);
    }
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
        // A head that never ends, in silence and byte by byte.
        for drips in [false, true] {
            let verifier = &verifier;
            scope.spawn(move || {
                let began = Instant::now();
                let mut client = verifier.connect();
                client.begin("POST /v1/attest HTTP/1.1\r\nhost: loc");
                while drips && !client.is_answered() && began.elapsed() < Duration::from_secs(60) {
                    client.more(b"a");
                    std::thread::sleep(Duration::from_millis(500));
                }
                let (status, body) = client.answer().expect("told");
                assert_eq!(status, 408);
                let refusal: Refusal = serde_json::from_slice(&body).expect("a refusal");
                assert!(refusal.error.contains("too long"), "{}", refusal.error);
                assert!(began.elapsed() < Duration::from_secs(35), "head: {:?}", began.elapsed());
            });
        }
        // A body that never ends, byte by byte.
        scope.spawn(|| {
            let began = Instant::now();
            let mut client = verifier.connect();
            client.begin(&format!(
                "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n",
                api::ATTEST
            ));
            while !client.is_answered() && began.elapsed() < Duration::from_secs(60) {
                client.more(b"a");
                std::thread::sleep(Duration::from_millis(500));
            }
            assert_eq!(client.answer().map(|(status, _)| status), Some(408));
            assert!(
                began.elapsed() < Duration::from_secs(35),
                "dripping: {:?}",
                began.elapsed()
            );
        });
        // Nobody who has asked nothing is told anything.
        scope.spawn(|| {
            let mut client = verifier.connect();
            assert_eq!(client.answer(), None);
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
