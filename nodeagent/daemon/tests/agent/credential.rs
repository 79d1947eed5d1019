//! Credentials of systemd's: what it gets for a unit that starts, and what nobody else gets at that socket. A program of the test's stands in for the
//! process that systemd forks for a command, and its children for those that load credentials.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rempart_api::agent::Deliver;
use rempart_core::audit::{Entry, What};
use rempart_harness::OpenBao;

use crate::{
    ALLOW,
    world::{VALUE, World},
};

/// One line asks: who connects (this process, a child, a child in a session of its own, a child of another user) and from which abstract address. One
/// line answers: how many bytes came, and the first of them.
const COMMAND: &str = r#"
import os, socket, sys
def ask(address):
    s = socket.socket(socket.AF_UNIX)
    if address != '-': s.bind('\0%x/' % os.getpid() + address)
    s.connect(sys.argv[1]); s.shutdown(socket.SHUT_WR)
    data = b''
    while piece := s.recv(1 << 16): data += piece
    return '%d %s' % (len(data), data[:4096].hex())
def tell(address):
    try: line = ask(address)
    except OSError as error: line = 'error %s' % error.strerror
    print(line, flush=True)
for line in sys.stdin:
    who, address = line.split()
    if who == 'self': tell(address); continue
    pid = os.fork()
    if pid: os.waitpid(pid, 0); continue
    if who == 'stranger': os.setsid()
    if who == 'nobody': os.setgroups([]); os.setgid(65534); os.setuid(65534)
    tell(address); os._exit(0)
"#;
/// Above what systemd takes.
const TOO_MUCH: usize = 1 << 20;

/// The process of a unit's command.
struct Forked {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Forked {
    fn start(world: &World) -> Self {
        let mut command = Command::new("setsid");
        command
            .args(["python3", "-c", COMMAND])
            .arg(world.at("credentials.sock"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    /// What came; a refusal is more than systemd takes, and all of it zeros.
    fn ask(&mut self, who: &str, address: &str) -> Result<Vec<u8>, String> {
        writeln!(self.input, "{who} {address}").expect("it runs");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        let (length, first) = line.trim_end().split_once(' ').expect("two words");
        let Ok(length) = length.parse::<usize>() else {
            return Err(line);
        };
        let first = hex::decode(first).expect("hexadecimal");
        if length > TOO_MUCH {
            assert!(first.iter().all(|byte| *byte == 0), "a refusal with something in it");
            return Err("spoilt".to_owned());
        }
        assert_eq!(length, first.len(), "values here are short");
        Ok(first)
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Site {
    world: World,
    bao: OpenBao,
    command: Forked,
}

impl Site {
    /// A node, unlocked, whose unit has one secret by credential and one by fd.
    async fn new() -> Self {
        let mut world = World::new().await;
        let unit = "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\n\
                    Secret=KEY:fd=kv/web#tls_key\nSecret=db.pw:credential=kv/web#db\n";
        fs::write(world.at("units/web.service"), unit).expect("write");
        let bao = OpenBao::start(&world.pki).expect("OpenBao");
        bao.put_secret("web", &[("tls_key", VALUE), ("db", "first")])
            .expect("secret");
        bao.role("web", &["web"]).expect("role");
        let vault = world.vault(&bao);
        world.start_agent_with(&vault, ALLOW);
        world.wait_for_state("unlocked");
        let command = Forked::start(&world);
        let mut site = Self { world, bao, command };
        let pid = site.command.child.id();
        site.service(|service| service.control_pid = pid);
        site
    }

    fn service(&mut self, change: impl FnOnce(&mut crate::systemd::Service)) {
        change(&mut self.world.systemd.service.lock().expect("no panic"));
    }

    fn ask(&mut self) -> Result<Vec<u8>, String> {
        self.command.ask("child", "unit/web.service/db.pw")
    }

    /// Asks, is refused, and finds `reason` in the journal.
    fn refused(&mut self, who: &str, address: &str, reason: &str) {
        let before = self.world.logs().matches(reason).count();
        assert_eq!(
            self.command.ask(who, address),
            Err("spoilt".to_owned()),
            "{who} {address}"
        );
        let logs = self.world.logs();
        assert!(logs.matches(reason).count() > before, "{who} {address}: {logs}");
    }

    /// Each release in the audit log: references.
    fn released(&self) -> Vec<Vec<String>> {
        let log = fs::read_to_string(self.world.at("state/audit.jsonl")).expect("a log");
        let entries = log
            .lines()
            .map(|line| serde_json::from_str::<Entry>(line).expect("an entry"));
        let secrets = |entry: Entry| match entry.what {
            What::Released { secrets, .. } => Some(secrets),
            _ => None,
        };
        entries.filter_map(secrets).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_and_the_wrapper_get_one_answer_a_start() {
    let mut site = Site::new().await;
    let early = site.world.ask().expect_err("systemd asks first");
    assert!(
        early.contains("has credentials, and systemd has not got them"),
        "{early}"
    );

    assert_eq!(site.ask().expect("given"), b"first");
    site.bao
        .put_secret("web", &[("tls_key", "another"), ("db", "second")])
        .expect("secret");
    assert_eq!(site.ask().expect("for the next command"), b"first");
    assert_eq!(
        site.command
            .ask("self", "unit/web.service/db.pw")
            .expect("without a child"),
        b"first"
    );
    let (area, items) = site.world.ask().expect("the rest");
    let names: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.deliver)).collect();
    assert_eq!(
        names,
        [("KEY", Deliver::Fd)],
        "the wrapper has nothing to do with credentials"
    );
    assert_eq!(&area.as_slice()[..items[0].len], VALUE.as_bytes());
    assert_eq!(site.released(), [vec!["kv/web#db"], vec!["kv/web#tls_key"]]);

    site.world.systemd.start_again();
    assert_eq!(site.ask().expect("the next start"), b"second");
    let logs = site.world.logs();
    assert!(!logs.contains(VALUE) && !logs.contains("second"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_by_credential_belongs_to_its_certificate_by_file_and_both_are_replaced_before_their_end() {
    let mut site = Site::new().await;
    site.bao.bao(&["secrets", "enable", "pki"], None).expect("pki");
    let root = ["write", "pki/root/generate/internal", "common_name=test", "ttl=24h"];
    site.bao.bao(&root, None).expect("authority");
    let issuer = serde_json::json!({
        "allowed_domains": "internal", "allow_subdomains": true, "key_type": "ec", "key_bits": 256, "not_before_duration": "1s"
    });
    site.bao.write("pki/roles/web", &issuer).expect("role");
    let rule = serde_json::json!({"policy": "path \"pki/issue/web\" { capabilities = [\"update\"] }"});
    site.bao.write("sys/policies/acl/rempart-web", &rule).expect("policy");
    let issued = "pki/issue/web?common_name=w.internal&ttl=24s";
    let unit = format!(
        "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\n\
         Secret=db.pw:credential={issued}#private_key\nSecret=tls.crt:file={issued}#certificate\n"
    );
    // The agent takes units as they are at its first start in a boot.
    site.world.stop_agent();
    fs::remove_file(site.world.at("state/units.json")).expect("recorded");
    fs::write(site.world.at("units/web.service"), unit).expect("write");
    let vault = site.world.vault(&site.bao);
    fs::remove_file(site.world.at("credentials.sock")).expect("of the agent before");
    site.world.start_agent_with(&vault, ALLOW);
    site.world.wait_for_state("unlocked");

    let begun = Instant::now();
    fs::write(site.world.at("key"), site.ask().expect("the key")).expect("write");
    let (area, items) = site.world.ask().expect("the certificate");
    fs::write(site.world.at("certificate"), &area.as_slice()[..items[0].len]).expect("write");
    let public = |command: &[&str], file: &str| {
        let mut openssl = Command::new("openssl");
        let output = openssl
            .args(command)
            .arg("-in")
            .arg(site.world.at(file))
            .output()
            .expect("installed");
        assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
        output.stdout
    };
    assert_eq!(
        public(&["pkey", "-pubout"], "key"),
        public(&["x509", "-noout", "-pubkey"], "certificate")
    );
    while !site.world.at("jobs/web.service").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(24),
            "not asked: {}",
            site.world.logs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_refused_or_over_gets_no_credential_and_no_silence() {
    let mut site = Site::new().await;
    site.bao.seal().expect("seal");
    site.refused("child", "unit/web.service/db.pw", "is sealed");
    site.bao.unseal().expect("unseal");
    // What is to run with it is not what it was at boot, although the files are.
    site.service(|service| service.prepare = "/tmp/mine".to_owned());
    site.refused("child", "unit/web.service/db.pw", "ExecStartPre= was changed");
    site.service(|service| service.prepare = "/usr/bin/prepare".to_owned());
    assert_eq!(site.ask().expect("nothing had been given"), b"first");

    // A lock wipes what is held, and no later answer is mixed with the earlier one.
    site.world.install_policy(2, &"ff".repeat(32));
    site.world.attest_until(77);
    site.refused("child", "unit/web.service/db.pw", "locked");
    site.world.install_policy(3, &"00".repeat(32));
    site.world.clear_node();
    site.world.attest_until(0);
    site.refused("child", "unit/web.service/db.pw", "the node was locked since");
    assert!(
        site.world
            .ask()
            .expect_err("of that start")
            .contains("the node was locked since")
    );

    // What is over is wiped.
    site.world.systemd.start_again();
    site.ask().expect("the next start");
    site.service(|service| service.ended = true);
    let until = Instant::now() + Duration::from_secs(15);
    while site.ask().is_ok() {
        assert!(Instant::now() < until, "still held: {}", site.world.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
    site.refused("child", "unit/web.service/db.pw", "that start is over");
    site.service(|service| service.ended = false);

    // Nor does a definition that changed get any.
    site.world.systemd.start_again();
    let file = site.world.at("units/web.service");
    fs::write(&file, fs::read_to_string(&file).expect("unit") + "# changed\n").expect("write");
    site.refused("child", "unit/web.service/db.pw", "was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_a_claim_and_only_systemds_own_child_is_believed() {
    let mut site = Site::new().await;
    let own = "unit/web.service/db.pw";
    site.ask().expect("systemd's child");
    site.refused("child", "unit/other.service/db.pw", "in the name of other.service");
    site.refused("child", "unit/web.service/none", "has no secret none");
    site.refused(
        "child",
        "unit/web.service/KEY",
        "has no secret KEY that is delivered by credential",
    );
    site.refused("child", "unit/web.service/db.pw/x", "not of systemd's form");
    site.refused("child", "-", "not of systemd's form");
    site.refused(
        "stranger",
        own,
        "was not forked by systemd for a command of web.service",
    );
    let nobody = site.command.ask("nobody", own).expect_err("another user");
    assert!(nobody.contains("Permission denied"), "{nobody}");

    // A process that systemd did not fork, as root, with everything else right; then again the one that it did.
    let mut stranger = Forked::start(&site.world);
    assert_eq!(stranger.ask("child", own), Err("spoilt".to_owned()));
    assert_eq!(stranger.ask("self", own), Err("spoilt".to_owned()));
    let pid = site.command.child.id();
    site.service(|service| service.control_pid = 0);
    site.refused("child", own, "was not forked by systemd");
    site.service(|service| service.control_pid = pid);
    site.ask().expect("systemd's child again");

    // The unit is started again while it is asked whose the process is: the answer is of another start, at either socket.
    site.service(|service| service.starts_again_soon = true);
    site.refused("child", own, "the process that asked is gone");
    site.ask().expect("the new start");
    site.service(|service| service.starts_again_soon = true);
    let gone = site.world.ask().expect_err("another start");
    assert!(gone.contains("the process that asked is gone"), "{gone}");
    site.ask().expect("the newest start");

    // The command's own program is not wrapped: what systemd has loaded is not what the generator wrote.
    let program = site.world.systemd.service.lock().expect("no panic").program.clone();
    site.service(|service| service.program = "/usr/bin/web".into());
    site.refused("child", own, "not started through");
    site.service(|service| service.program = program);
    site.ask().expect("wrapped again");
}
