//! Whether what agent and Verifier know can be read by root: both under load, stopped again and again, all their memory searched.
//!
//! Each promise is seen from both sides: in ordinary memory, which `memory.degraded = "allow"` permits, the same search finds what it
//! finds nowhere once that is secret. A control in ordinary memory of the process has to be found by each single look.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rempart_harness::{
    OpenBao,
    scan::{Needle, scan, scan_file},
};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject};

use crate::{
    ALLOW,
    front::{Front, KeyLog, client},
    world::{CONTROL, VALUE, World},
};

/// Looks at a process in secret memory.
const LOOKS: u32 = 50;
/// Looks at one in ordinary memory, which only have to find everything once.
const CONTROL_LOOKS: u32 = 15;
/// Locked memory with which no heap can be secret but a release still can.
const TOO_LITTLE: u32 = 256 << 10;
/// What any process may lock where nobody raised the limit.
const USUAL: u32 = 8 << 20;
const ORDINARY: &str = "[memory]\ndegraded = \"allow\"\n";
const CONTROL_KIND: &str = "control";
/// The Verifier answers 30 attestations a minute of one node.
const ATTEST_EVERY: Duration = Duration::from_millis(2500);

/// Per kind of needle: in how many looks it was found, and where.
type Tally = BTreeMap<String, (u32, Vec<&'static str>)>;

/// Looks at `pid` at `looks` moments that nobody chose.
fn look(pid: u32, looks: u32, needles: impl Fn() -> Vec<Needle>) -> (Tally, u64, u64) {
    let (mut tally, mut read, mut secret) = (Tally::new(), 0, u64::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut random = now.subsec_nanos() | 1;
    for _ in 0..looks {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        thread::sleep(Duration::from_micros(u64::from(20_000 + random % 130_000)));
        let mut needles = needles();
        needles.push(Needle::new(CONTROL_KIND, CONTROL.as_bytes()));
        let seen = scan(pid, &needles).expect("readable for root");
        assert!(
            seen.found.contains_key(CONTROL_KIND),
            "a look that finds nothing proves nothing"
        );
        read += seen.read;
        secret = secret.min(seen.secret);
        for (kind, places) in seen.found {
            let (count, all) = tally.entry(kind).or_default();
            *count += 1;
            all.extend(places);
            all.sort_unstable();
            all.dedup();
        }
    }
    (tally, read, secret)
}

fn show(what: &str, looks: u32, (tally, read, secret): &(Tally, u64, u64)) {
    println!(
        "{what}: {looks} looks, {} MiB read, {} MiB secret",
        read >> 20,
        secret >> 20
    );
    for (kind, (count, places)) in tally {
        println!("  {kind:<28} in {count:>2} looks: {}", places.join(", "));
    }
}

/// Searches a core dump of `pid`, made with every kind of mapping and no limit.
fn core_dump(world: &mut World, pid: u32, needles: &[Needle]) -> Option<Vec<String>> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("proc");
    if pattern.starts_with(['|', '/']) {
        println!(
            "no core dump: /proc/sys/kernel/core_pattern leads elsewhere ({})",
            pattern.trim()
        );
        return None;
    }
    fs::write(format!("/proc/{pid}/coredump_filter"), "0x1ff").expect("filter");
    let limit = std::process::Command::new("prlimit")
        .args([&format!("--pid={pid}"), "--core=unlimited"])
        .status();
    assert!(limit.expect("util-linux").success());
    let status = world.abort_agent();
    assert!(status.core_dumped(), "{status:?}");
    let core = fs::read_dir(world.at("")).expect("folder").flatten();
    let core = core.map(|entry| entry.path()).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("core"))
    });
    Some(scan_file(&core.expect("a core dump"), needles).expect("readable"))
}

fn kinds(needles: &[Needle]) -> Vec<&str> {
    let mut kinds: Vec<&str> = needles.iter().map(|needle| needle.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn root_finds_nothing_that_the_agent_knows_in_its_memory() {
    let mut world = World::new().await;
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE)]).expect("secret");
    bao.role("web", &["web"]).expect("role");
    let jwks = format!("{}/.well-known/jwks.json", world.verifier_url());
    bao.trust_verifier(&jwks, &world.verifier_url()).expect("trust");
    let front = Front::start(&world.pki, bao.port()).await;
    let vault = format!(
        "[vault]\nkind = \"openbao\"\nurl = \"https://localhost:{}\"\nca = \"{}\"\n",
        front.port(),
        world.pki.ca().display()
    );
    let needles = || {
        let mut needles = front.needles();
        needles.push(Needle::new("released value", VALUE.as_bytes()));
        needles
    };
    let under_load = |world: &mut World, what: &str, looks: u32, extra: &str| {
        world.start_agent_with(&vault, extra);
        world.wait_for_state("unlocked");
        world.systemd.start_again();
        world.ask().expect("released");
        let pid = world.agent_pid();
        let seen = thread::scope(|scope| {
            let looking = scope.spawn(|| look(pid, looks, needles));
            // The first looks see the result of the first round, which a later one replaces.
            let mut next = Instant::now() + ATTEST_EVERY;
            while !looking.is_finished() {
                world.systemd.start_again();
                world.ask().expect("released");
                if Instant::now() >= next {
                    assert!(world.rempart(&["attest"]).status.success(), "{}", world.logs());
                    next = Instant::now() + ATTEST_EVERY;
                }
            }
            looking.join().expect("no look failed")
        });
        show(what, looks, &seen);
        seen
    };

    world.locked = Some(TOO_LITTLE);
    let (tally, _, secret) = under_load(
        &mut world,
        "agent, ordinary",
        CONTROL_LOOKS,
        &format!("{ALLOW}{ORDINARY}"),
    );
    assert_eq!(secret, 0);
    // A handshake's secrets lie on a stack that the next request writes over: a look may come too late. The Verifier's are found.
    for kind in kinds(&needles())
        .into_iter()
        .filter(|kind| *kind != "TLS handshake secret")
    {
        assert!(
            tally.contains_key(kind),
            "the search does not find a {kind} where it is: {tally:?}"
        );
    }
    assert_eq!(world.status()["memory"]["secret"], false);
    let doctor = world.rempart(&["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains("memory-ordinary") && doctor.contains("LimitMEMLOCK"),
        "{doctor}"
    );
    world.stop_agent();

    world.locked = Some(USUAL);
    let (tally, _, secret) = under_load(&mut world, "agent, secret", LOOKS, ALLOW);
    assert!(secret > 0);
    assert_eq!(
        tally.into_keys().collect::<Vec<_>>(),
        [CONTROL_KIND],
        "nothing but the control is found"
    );
    assert_eq!(world.status()["memory"]["secret"], true);

    let mut needles = needles();
    needles.push(Needle::new(CONTROL_KIND, CONTROL.as_bytes()));
    let pid = world.agent_pid();
    if let Some(found) = core_dump(&mut world, pid, &needles) {
        println!("agent, core dump: {} needles, found: {found:?}", needles.len());
        assert_eq!(found, [CONTROL_KIND], "nothing but the control is in a core dump");
    }
}

/// A P-256 key's number as files have it, and as the cryptographic library keeps it.
fn private_number(kind: &str, der: &[u8]) -> [Needle; 2] {
    // ECPrivateKey (RFC 5915): version 1, then 32 octets.
    let mark = [2, 1, 1, 4, 32];
    let at = der.windows(5).position(|window| window == mark).expect("a P-256 key") + mark.len();
    let mut number = der[at..at + 32].to_vec();
    let file = Needle::new(kind, &number);
    number.reverse();
    [file, Needle::new(kind, &number)]
}

fn key_der(path: &Path) -> Vec<u8> {
    match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => key.secret_der().to_vec(),
        Err(_) => fs::read(path).expect("a key file"),
    }
}

/// Clients that come, ask and stay for a while, until `end`.
fn visit(world: &World, log: &Arc<KeyLog>, end: &AtomicBool) {
    let config = Arc::new(client(&world.pki, log.clone()));
    let port = world
        .verifier_url()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("port");
    let mut open = Vec::new();
    while !end.load(Ordering::SeqCst) {
        let name = ServerName::try_from("localhost").expect("name");
        let connection = ClientConnection::new(config.clone(), name).expect("client");
        let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).expect("Verifier"));
        stream
            .write_all(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        let mut answer = [0; 512];
        assert!(stream.read(&mut answer).expect("answer") > 0);
        open.push(stream);
        if open.len() > 8 {
            open.remove(0);
        }
        thread::sleep(Duration::from_millis(15));
    }
}

/// Where a value is found in a `rempart-verifier secret set` that has read it and waits for more.
fn taken_in(world: &World) -> Vec<&'static str> {
    let mut command = world.verifier_command_with_input(&["secret", "set", "kv/web#other", "--role", "web"]);
    let mut input = command.stdin.take().expect("piped");
    input.write_all(VALUE.as_bytes()).expect("sent");
    thread::sleep(Duration::from_secs(1));
    let needles = [
        Needle::new("value", VALUE.as_bytes()),
        Needle::new(CONTROL_KIND, CONTROL.as_bytes()),
    ];
    let mut seen = scan(command.id(), &needles).expect("readable for root");
    assert!(
        seen.found.contains_key(CONTROL_KIND),
        "a look that finds nothing proves nothing"
    );
    drop(input);
    assert!(command.wait().expect("ended").success());
    seen.found.remove("value").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_finds_nothing_that_the_verifier_knows_in_its_memory() {
    let mut world = World::new().await;
    let log = Arc::<KeyLog>::default();
    let folder = world.at("verifier");
    let mut fixed = vec![Needle::new("released value", VALUE.as_bytes())];
    fixed.push(Needle::new(
        "store key",
        &fs::read(folder.join("store.key")).expect("key"),
    ));
    for (kind, path) in [
        ("signing key", folder.join("signing.key")),
        ("CA key", folder.join("ca.key")),
        ("TLS server key", world.pki.identity("verifier").key),
    ] {
        fixed.extend(private_number(kind, &key_der(&path)));
    }
    let needles = || [fixed.clone(), log.needles()].concat();
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    let under_load = |world: &mut World, what: &str, looks: u32| {
        world.stop_verifier();
        world.start_verifier();
        let pid = world.verifier_pid();
        let end = AtomicBool::new(false);
        let world = Mutex::new(&*world);
        let seen = thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let seen = look(pid, looks, needles);
                end.store(true, Ordering::SeqCst);
                seen
            });
            let world = *world.lock().expect("no panic");
            let visiting = scope.spawn(|| visit(world, &log, &end));
            // The first looks see the result of the first round, which a later one replaces.
            let mut next = Instant::now() + ATTEST_EVERY;
            while !looking.is_finished() {
                world.systemd.start_again();
                world.ask().expect("released");
                if Instant::now() >= next {
                    assert!(world.rempart(&["attest"]).status.success(), "{}", world.logs());
                    next = Instant::now() + ATTEST_EVERY;
                }
            }
            visiting.join().expect("served");
            looking.join().expect("no look failed")
        });
        show(what, looks, &seen);
        seen
    };

    let config = world.at("verifier/verifier.toml");
    let text = fs::read_to_string(&config).expect("configuration");
    assert!(text.contains("degraded = \"refuse\""), "{text}");
    assert!(taken_in(&world).is_empty());
    fs::write(&config, text.replace("degraded = \"refuse\"", "degraded = \"allow\"")).expect("configuration");
    world.locked = Some(TOO_LITTLE);
    assert_eq!(taken_in(&world), ["heap"], "a value on its way into the store");
    let (tally, _, secret) = under_load(&mut world, "Verifier, ordinary", CONTROL_LOOKS);
    assert_eq!(secret, 0);
    // A value on its way out is there for microseconds, too short for so few looks; `taken_in` holds one in place.
    for kind in kinds(&needles()).into_iter().filter(|kind| *kind != "released value") {
        assert!(
            tally.contains_key(kind),
            "the search does not find a {kind} where it is: {tally:?}"
        );
    }
    assert!(
        world.logs().contains("memory-ordinary: runs on in ordinary memory"),
        "{}",
        world.logs()
    );

    fs::write(&config, text).expect("configuration");
    world.locked = None;
    let (tally, _, secret) = under_load(&mut world, "Verifier, secret", LOOKS);
    assert!(secret > 0);
    assert_eq!(
        tally.into_keys().collect::<Vec<_>>(),
        [CONTROL_KIND],
        "nothing but the control is found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_secret_memory_neither_agent_nor_verifier_starts_unless_that_is_allowed() {
    let mut world = World::new().await;
    world.locked = Some(TOO_LITTLE);
    let (status, said) = world.agent_that_ends(ALLOW);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        said.contains("raise LimitMEMLOCK=") && said.contains("memory.degraded"),
        "{said}"
    );
    world.stop_verifier();
    let (status, said) = world.verifier_that_ends();
    assert_eq!(status.code(), Some(71), "{said}");
    assert!(
        said.contains("raise LimitMEMLOCK=") && said.contains("memory.degraded"),
        "{said}"
    );
}
