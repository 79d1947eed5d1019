//! Everything around one agent: software TPM, Verifier, bus, systemd's stand-in, evidence socket, and a folder.
//! All of it ends with the [`World`].

use std::{
    fs::{self, File},
    io::Write,
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

use nix::{
    sys::memfd::{MFdFlags, memfd_create},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rempart_api::{agent, line};
use rempart_device::{
    logs::Logs,
    service::{Answer, Question, Request, SystemdAnswer, TeeAnswer},
};
use rempart_harness::{OpenBao, Pki};
use rempart_secretmem::{Area, receive_line, send_line};
use std::os::fd::AsFd;

use crate::{
    swtpm::{Swtpm, tools::Tools},
    systemd::Systemd,
};

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The value that must appear nowhere but in the area.
pub const VALUE: &str = "correct horse battery staple";

/// Planted in the environment of agent and Verifier: ordinary memory of theirs.
pub const CONTROL: &str = "a control that every scan must find";

pub struct World {
    folder: tempfile::TempDir,
    _bus: Running,
    address: String,
    pub systemd: Systemd,
    pub pki: Pki,
    tpm: Swtpm,
    verifier: Option<Running>,
    port: u16,
    agent: Option<Running>,
    guard: Option<Running>,
    /// The agent's configuration names no Verifier.
    pub alone: bool,
    /// How often the machine was booted again.
    boots: u32,
    /// More of the agent's `[tpm]`.
    pub tpm_words: String,
    /// What the agent asked in the place of rempart-evidence.
    pub asked: Asked,
    /// Locked memory that agent and Verifier may have, bytes; `None` is what this test may have.
    pub locked: Option<u32>,
}

/// Makes a file in memory for each item and hands it to the agent, as the wrapper does.
fn keep_files(socket: &UnixStream, items: &[agent::Item]) -> Vec<File> {
    let names = items.iter().map(|item| item.name.clone()).collect();
    let made = |_| File::from(memfd_create(c"file", MFdFlags::MFD_ALLOW_SEALING).expect("a memory file"));
    let files: Vec<File> = items.iter().map(made).collect();
    let words = line::encode(&agent::Request::Keep { v: 1, names }).expect("plain struct");
    let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    send_line(socket.as_fd(), &words, &descriptors).expect("sent");
    files
}

/// Questions with a report in them, in order.
type Asked = Arc<Mutex<Vec<Request>>>;

/// A child process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    /// A node that its Verifier knows, with a policy for a machine that has measured nothing.
    pub async fn new() -> Self {
        build();
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        let address = format!("unix:path={}", at("bus").display());
        let bus =
            start(Command::new("dbus-daemon").args(["--session", "--nofork", "--nopidfile", "--address", &address]));
        wait("the bus", || UnixStream::connect(at("bus")).is_ok());
        for name in ["units", "state", "links", "jobs"] {
            fs::create_dir(at(name)).expect("folder");
        }
        let fragment = at("units").join("web.service");
        let unit = "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\nSecret=KEY:fd=kv/web#tls_key\n\
                    Secret=tls.key:file=kv/web#tls_key\n";
        fs::write(&fragment, unit).expect("write");
        let systemd = Systemd::start(&address, &fragment).await;
        let asked = serve_logs(&at("evidence.sock"));
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("loopback")
            .port();
        let mut world = Self {
            folder,
            _bus: bus,
            address,
            systemd,
            pki: Pki::open().expect("certificates"),
            tpm: Swtpm::start(),
            verifier: None,
            port,
            agent: None,
            guard: None,
            alone: false,
            boots: 0,
            tpm_words: String::new(),
            asked,
            locked: None,
        };
        world.make_verifier();
        world.start_verifier();
        world
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has `bao` trust the Verifier; the agent's `[vault]` for it.
    pub fn vault(&self, bao: &OpenBao) -> String {
        let url = self.verifier_url();
        bao.trust_verifier(&format!("{url}/.well-known/jwks.json"), &url)
            .expect("trust");
        format!(
            "[vault]\nkind = \"openbao\"\nurl = \"https://localhost:{}\"\nca = \"{}\"\n",
            bao.port(),
            self.pki.ca().display()
        )
    }

    /// The Verifier's URL, which is its identifier too.
    pub fn verifier_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Starts the agent with the Verifier's own store and waits until it serves.
    pub fn start_agent(&mut self, extra: &str) {
        self.start_agent_with("[vault]\nkind = \"verifier\"\n", extra);
    }

    /// Starts the agent and waits until it serves.
    pub fn start_agent_with(&mut self, vault: &str, extra: &str) {
        let _ = fs::remove_file(self.at("agent.sock"));
        let mut command = self.agent_command(vault, extra);
        self.agent = Some(start(&mut command));
        let socket = self.at("agent.sock");
        wait("the agent", || socket.exists());
    }

    /// Starts an agent that does not come to serve: how it ended and what it said.
    pub fn agent_that_ends(&mut self, extra: &str) -> (ExitStatus, String) {
        let mut command = self.agent_command("[vault]\nkind = \"verifier\"\n", extra);
        ended(&mut command)
    }

    /// The same for a Verifier.
    pub fn verifier_that_ends(&self) -> (ExitStatus, String) {
        let mut command = self.limited(&program("rempart-verifier"));
        ended(
            command
                .arg("--config")
                .arg(self.at("verifier/verifier.toml"))
                .arg("serve"),
        )
    }

    /// Ends the agent with SIGABRT.
    pub fn abort_agent(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().expect("started");
        let pid = Pid::from_raw(i32::try_from(agent.0.id()).expect("a pid"));
        kill(pid, Signal::SIGABRT).expect("ours");
        agent.0.wait().expect("ended")
    }

    fn configure(&self, more: &str) {
        let verifier = format!(
            "[verifier]\nurl = \"{}\"\nca = \"{}\"\n",
            self.verifier_url(),
            self.pki.ca().display()
        );
        let verifier = if self.alone { "" } else { &verifier };
        let config = format!(
            "[node]\nname = \"demo-1\"\n{verifier}[tpm]\ntcti = \"{}\"\n{}{more}",
            self.tpm.tcti(),
            self.tpm_words
        );
        fs::write(self.at("rempart.toml"), config).expect("write");
    }

    /// `rempartd ARGUMENTS` by the test's configuration, for what it does and ends.
    pub fn rempartd(&self, arguments: &[&str]) -> Output {
        self.configure("[vault]\nkind = \"verifier\"\n");
        let mut command = self.limited(Path::new(env!("CARGO_BIN_EXE_rempartd")));
        command.arg("--config").arg(self.at("rempart.toml")).args(arguments);
        command.output().expect("rempartd runs")
    }

    fn agent_command(&self, vault: &str, extra: &str) -> Command {
        self.configure(&format!("{vault}{extra}"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.at("agent.log"))
            .expect("log");
        let program = Path::new(env!("CARGO_BIN_EXE_rempartd"));
        let mut command = match self.boots {
            0 => self.limited(program),
            _ => self.in_later_boot(program),
        };
        command
            .args(["--bus", &self.address])
            .stderr(log)
            .env("REMPART_LOG", "debug");
        // None of these may lead it elsewhere.
        for name in [
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "VAULT_ADDR",
            "VAULT_TOKEN",
            "VAULT_SKIP_VERIFY",
            "RUST_LOG",
        ] {
            command.env(name, "http://127.0.0.1:9");
        }
        for (option, name) in [
            ("--config", "rempart.toml"),
            ("--socket", "agent.sock"),
            ("--credentials", "credentials.sock"),
            ("--guard", "guard.sock"),
            ("--evidence", "evidence.sock"),
            ("--state", "state"),
            ("--links", "links"),
            ("--jobs", "jobs"),
            ("--unit-folders", "units"),
        ] {
            command.arg(option).arg(self.at(name));
        }
        command.arg("--wrap").arg(std::env::current_exe().expect("own path"));
        command
    }

    /// How to reach the software TPM. The agent leaves it after a second without work.
    pub fn tcti(&self) -> String {
        self.tpm.tcti()
    }

    /// Ends the agent, cuts the software TPM's power, powers it on again, and gives the machine another boot id. What is to be seen by
    /// the next agent is what a reboot leaves.
    pub fn reboot(&mut self) {
        self.stop_agent();
        self.tpm.cut_power();
        self.boots += 1;
        let id = format!("11111111-2222-4333-8444-{:012}\n", self.boots);
        fs::write(self.at("boot_id"), id).expect("write");
    }

    /// tpm2-tools on the software TPM.
    pub fn tools(&self) -> Tools {
        Tools::new(&self.tpm)
    }

    /// The manufacturer's certificates, PEM: the intermediate that signed the EK's, and the root.
    pub fn manufacturer(&self) -> [PathBuf; 2] {
        self.tpm.manufacturer()
    }

    /// From now on the Verifier trusts the manufacturer's root and nothing else.
    pub fn trust_the_root_only(&mut self) {
        self.stop_verifier();
        let file = self.at("verifier/verifier.toml");
        let text = fs::read_to_string(&file).expect("configuration");
        let issuer = format!("\"{}\", ", self.manufacturer()[0].display());
        assert!(text.contains(&issuer), "{text}");
        fs::write(&file, text.replace(&issuer, "")).expect("written");
        self.start_verifier();
    }

    /// The address of the test's bus.
    pub fn bus(&self) -> &str {
        &self.address
    }

    /// What the last attestation showed.
    pub fn attestation(&self) -> serde_json::Value {
        self.status()["attestation"].clone()
    }

    /// Waits until `seen` is true of the agent's status; gives it.
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        seen: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let until = Instant::now() + patience;
        loop {
            let status = self.status();
            if seen(&status) {
                return status;
            }
            assert!(Instant::now() < until, "not {what}: {status}; {}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A CA that has signed none of the servers.
    pub fn tpm_authority(&self) -> PathBuf {
        self.tpm.manufacturer()[1].clone()
    }

    /// Starts the real guard. On a kernel that refuses BPF LSM it says that it is degraded.
    pub fn start_guard(&mut self) {
        let mut command = Command::new(program("rempart-guard"));
        command
            .arg("--socket")
            .arg(self.at("guard.sock"))
            .arg("--pins")
            .arg(self.at("pins"));
        self.guard = Some(start(command.stderr(Stdio::null())));
        let socket = self.at("guard.sock");
        wait("the guard", || UnixStream::connect(&socket).is_ok());
    }

    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    pub fn stop_verifier(&mut self) {
        self.verifier = None;
    }

    pub fn start_verifier(&mut self) {
        let config = self.at("verifier/verifier.toml");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.at("verifier.log"))
            .expect("log");
        self.verifier = Some(start(
            self.limited(&program("rempart-verifier"))
                .arg("--config")
                .arg(config)
                .arg("serve")
                .stderr(log),
        ));
        let port = self.port;
        wait("the Verifier", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// A command for `program` that has [`World::locked`] bytes of locked memory, and in its environment what a scan must find.
    fn limited(&self, program: &Path) -> Command {
        let mut command = match self.locked {
            None => Command::new(program),
            Some(bytes) => {
                let mut command = Command::new("prlimit");
                if nix::unistd::geteuid().is_root() {
                    // Root may lock more than its limit.
                    command = Command::new("setpriv");
                    command.args(["--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock", "prlimit"]);
                }
                command.arg(format!("--memlock={bytes}:{bytes}")).arg(program);
                command
            }
        };
        command
            .env("REMPART_TEST_CONTROL", CONTROL)
            .current_dir(self.folder.path());
        command
    }

    /// The same with the boot id of [`World::reboot`], in a mount namespace of its own.
    fn in_later_boot(&self, program: &Path) -> Command {
        let mut command = self.limited(Path::new("unshare"));
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-current-user"]);
        }
        let mounted = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        command.args(["--mount", "sh", "-c", mounted]);
        command.arg(self.at("boot_id")).arg(program);
        command
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("started").0.id()
    }

    /// The Verifier's process.
    pub fn verifier_pid(&self) -> u32 {
        self.verifier.as_ref().expect("started").0.id()
    }

    /// `rempart ARGUMENTS` on the test's bus.
    pub fn rempart(&self, arguments: &[&str]) -> Output {
        self.rempart_command(arguments).output().expect("rempart runs")
    }

    /// The same, to be run.
    pub fn rempart_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("rempart"));
        command.args(["--bus", &self.address]).args(arguments);
        command
    }

    pub fn status(&self) -> serde_json::Value {
        let output = self.rempart(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Waits until the agent is in the state `word`; gives its status.
    pub fn wait_for_state(&self, word: &str) -> serde_json::Value {
        self.wait_until(word, Duration::from_secs(30), |status| status["state"] == word)
    }

    /// The agent's object on the test's bus.
    pub async fn agent_on_the_bus(&self) -> zbus::Proxy<'static> {
        let bus = zbus::connection::Builder::address(self.address.as_str()).expect("address");
        let bus = bus.build().await.expect("the bus");
        let name = rempart_api::bus::NAME;
        let proxy = zbus::Proxy::new_owned(bus, name, rempart_api::bus::PATH, rempart_api::bus::INTERFACE).await;
        proxy.expect("the agent's object")
    }

    /// Asks for secrets as the wrapper does.
    pub fn ask(&self) -> Result<(Area, Vec<agent::Item>), String> {
        self.ask_and_keep().map(|(area, items, _)| (area, items))
    }

    /// The same, and the files that the agent wanted to be able to replace: they hold nothing yet.
    pub fn ask_and_keep(&self) -> Result<(Area, Vec<agent::Item>, Vec<File>), String> {
        let socket = UnixStream::connect(self.at("agent.sock")).expect("agent socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        let question = line::encode(&agent::Request::Release { v: 1 }).expect("plain struct");
        send_line(socket.as_fd(), &question, &[]).expect("sent");
        let (answer, descriptor) = receive_line(socket.as_fd(), line::MAX_LINE).expect("answer");
        match line::decode(&answer).expect("reply") {
            agent::Reply::Released {
                area_len,
                items,
                heap,
                keep,
                ..
            } => {
                assert_eq!(heap, Some(64 << 20), "what the unit's file says");
                let area = Area::map(descriptor.expect("descriptor"), area_len).expect("secret memory");
                let files = if keep { keep_files(&socket, &items) } else { Vec::new() };
                Ok((area, items, files))
            }
            agent::Reply::Refused { refused, .. } => Err(refused),
        }
    }

    /// Signs and installs a policy whose PCR 4 is `pcr4`. A running Verifier judges by it when this returns: a node that is judged by
    /// the one before would be latched for that.
    pub fn install_policy(&self, counter: u32, pcr4: &str) {
        self.install_policy_for(counter, "sha256", pcr4);
    }

    /// The same for one bank.
    pub fn install_policy_for(&self, counter: u32, bank: &str, pcr4: &str) {
        let zero = "0".repeat(pcr4.len());
        let policy = format!(
            "version = 1\nname = \"test\"\ncounter = {counter}\n[[image]]\nname = \"nothing measured\"\nbank = \"{bank}\"\n\
             pcr4 = [\"{pcr4}\"]\npcr7 = [\"{zero}\"]\npcr9 = [\"{zero}\"]\npcr11 = [\"{zero}\"]\npcr12 = [\"{zero}\"]\n"
        );
        let file = self.at(&format!("policy-{counter}.toml"));
        fs::write(&file, &policy).expect("write");
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", "rempart-policy", "-f"])
            .arg(self.at("signer"))
            .arg(&file);
        done(&mut sign);
        self.verifier_command(&["policy", "install", &file.display().to_string()], "");
        if self.verifier.is_some() {
            let digest = rempart_attest::bytes::sha256(policy.as_bytes()).to_string();
            wait("judging by the new policy", || self.policy_in_force() == digest);
        }
    }

    /// Digest of the policy by which the running Verifier judges, as it tells any node that asks.
    fn policy_in_force(&self) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "5", "--json", r#"{"policy":""}"#, "--cacert"])
            .arg(self.pki.ca())
            .arg(format!("{}/v1/watch", self.verifier_url()));
        let answer = curl.output().expect("installed").stdout;
        serde_json::from_slice::<serde_json::Value>(&answer)
            .ok()
            .and_then(|answer| answer["policy"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// `rempart attest`, until it ends with `code`: what an operator changes at the Verifier counts there a moment later.
    pub fn attest_until(&self, code: i32) -> Output {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.rempart(&["attest"]);
            if output.status.code() == Some(code) {
                return output;
            }
            assert!(Instant::now() < until, "never {code}: {output:?} {}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The Verifier's operator ends the latch of the node.
    pub fn clear_node(&self) {
        self.verifier_command(&["node", "clear", "demo-1"], "");
        // The running Verifier looks ten times a second.
        std::thread::sleep(Duration::from_secs(1));
    }

    /// `rempart-verifier ARGUMENTS` that waits for its input.
    pub fn verifier_command_with_input(&self, arguments: &[&str]) -> Child {
        let mut command = self.limited(&program("rempart-verifier"));
        command
            .arg("--config")
            .arg(self.at("verifier/verifier.toml"))
            .args(arguments);
        command.stdin(Stdio::piped()).spawn().expect("starts")
    }

    /// `rempart-verifier ARGUMENTS` with `input`.
    pub fn verifier_command(&self, arguments: &[&str], input: &str) {
        let mut command = Command::new(program("rempart-verifier"));
        command
            .arg("--config")
            .arg(self.at("verifier/verifier.toml"))
            .args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("ends");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What agent and Verifier logged.
    pub fn logs(&self) -> String {
        ["agent.log", "verifier.log"]
            .map(|name| fs::read_to_string(self.at(name)).unwrap_or_default())
            .join("---\n")
    }

    fn make_verifier(&self) {
        let mut key = Command::new("ssh-keygen");
        done(
            key.args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"])
                .arg(self.at("signer")),
        );
        let public = fs::read_to_string(self.at("signer.pub")).expect("public key");
        fs::write(self.at("signers"), format!("owner {public}")).expect("write");
        let [issuer, root] = self.tpm.manufacturer();
        let mut init = Command::new(program("rempart-verifier"));
        init.arg("init").arg("--dir").arg(self.at("verifier"));
        init.args(["--id", &self.verifier_url()]);
        init.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        let tls = self.pki.identity("verifier");
        init.arg("--tls-certificate")
            .arg(tls.certificate)
            .arg("--tls-key")
            .arg(tls.key);
        init.arg("--ek-root").arg(issuer).arg("--ek-root").arg(root);
        init.arg("--allowed-signers").arg(self.at("signers"));
        done(&mut init);
        self.install_policy(1, ZERO);
        self.verifier_command(&["node", "add", "demo-1", "--role", "web"], "");
        self.verifier_command(&["secret", "set", "kv/web#tls_key", "--role", "web"], VALUE);
    }
}

/// In the place of rempart-evidence: a machine whose firmware measured nothing but its log's header, without a TEE.
fn serve_logs(path: &Path) -> Asked {
    let listener = UnixListener::bind(path).expect("evidence socket");
    let asked = Asked::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let logs = Logs {
                uefi_log: log_header(),
                ..Logs::default()
            };
            let _ = match Question::read(&stream) {
                Ok(None) => logs.write(stream),
                Ok(Some(Question::Systemd(_))) => {
                    SystemdAnswer::Absent("this test has no systemd".into()).write(stream)
                }
                Ok(Some(Question::Tee(request))) => {
                    kept.lock().expect("no panic").push(request);
                    Answer {
                        logs,
                        tee: TeeAnswer::Absent("this test has no TEE".into()),
                    }
                    .write(stream)
                }
                Err(error) => Err(error),
            };
        }
    });
    asked
}

/// TCG_EfiSpecIDEvent in an EV_NO_ACTION event (PC Client Platform Firmware Profile, 10.4.5.1): SHA-256 and SHA-384.
fn log_header() -> Vec<u8> {
    let algorithms: [(u16, u16); 2] = [(0x000b, 32), (0x000c, 48)];
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend((algorithms.len() as u32).to_le_bytes());
    for (algorithm, size) in algorithms {
        spec.extend(algorithm.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    let mut event = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    event.extend([0; 20]);
    event.extend((spec.len() as u32).to_le_bytes());
    [event, spec].concat()
}

/// Builds the other programs, once: a test of a stale program proves nothing.
fn build() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        done(Command::new(env!("CARGO")).args([
            "build",
            "-q",
            "-p",
            "rempart-verifier",
            "-p",
            "rempart-guard",
            "-p",
            "rempart",
        ]))
    });
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_rempartd")).with_file_name(name)
}

fn done(command: &mut Command) {
    let output = command.output().expect("installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn start(command: &mut Command) -> Running {
    Running(command.stdin(Stdio::null()).spawn().expect("starts"))
}

/// Runs a command that is to end by itself.
fn ended(command: &mut Command) -> (ExitStatus, String) {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("starts");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !ready() {
        assert!(Instant::now() < until, "{what} did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}
