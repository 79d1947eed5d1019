//! The real guard where it cannot enforce, which is any machine without a bpffs at hand; on kernels that refuse BPF LSM programs
//! it does not come so far. It runs, says why in one line, and refuses to protect.

use rempart_api::guard::{MODES, Outcome, Status};
use std::{
    io::{BufRead, BufReader, IoSlice, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

struct Guard {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Guard {
    /// Its pins would lie in a plain folder, so that nothing can come into force on the machine that runs the tests.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_rempart-guard"))
            .arg("--socket")
            .arg(folder.path().join("guard.sock"))
            .arg("--pins")
            .arg(folder.path().join("pins"))
            .stderr(said)
            .stdin(Stdio::null())
            .spawn()
            .expect("started");
        let guard = Guard { child, folder };
        let begun = Instant::now();
        while guard.connect().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        guard
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.path().join("guard.sock")).ok()
    }

    fn ask(&self, line: &str, pidfd: Option<&OwnedFd>) -> String {
        let stream = self.connect().expect("the guard listens");
        let line = format!("{line}\n");
        match pidfd {
            None => (&stream).write_all(line.as_bytes()).expect("sent"),
            Some(pidfd) => {
                let fds = [pidfd.as_raw_fd()];
                let beside = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
                nix::sys::socket::sendmsg::<()>(
                    stream.as_raw_fd(),
                    &[IoSlice::new(line.as_bytes())],
                    &beside,
                    nix::sys::socket::MsgFlags::empty(),
                    None,
                )
                .expect("sent");
            }
        }
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).expect("an answer");
        answer
    }

    fn protect(&self, allow: bool) -> Outcome {
        // SAFETY: pidfd_open(2) takes two numbers and gives a new descriptor, which nobody else knows.
        let own = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0);
            assert!(fd >= 0, "no pidfd");
            OwnedFd::from_raw_fd(fd as libc::c_int)
        };
        let line = format!(r#"{{"v":1,"op":"protect","unit":"x.service","mode":"enforce","allow_degraded":{allow}}}"#);
        serde_json::from_str(&self.ask(&line, Some(&own))).expect("an outcome")
    }
}

#[test]
fn the_guard_names_its_degraded_mode_once_and_protects_nobody() {
    let guard = Guard::start();
    let status: Status = serde_json::from_str(&guard.ask(r#"{"v":1,"op":"status"}"#, None)).expect("a status");
    assert!(!status.enforcing && !status.armed && status.programs.is_empty());
    let why = status.why.expect("a reason");
    let mode = why.split(':').next().expect("its first word");
    assert!(MODES.contains(&mode), "{why}");
    println!("this machine's degraded mode: {mode}");
    for open in ["PTRACE_ATTACH", "PROCMEM_READ", "BPF_LOAD", "UNPIN"] {
        assert!(status.missing_vectors.iter().any(|name| name == open), "{open}");
    }
    let Outcome::Refused { refused, .. } = guard.protect(false) else {
        panic!("protected in degraded mode");
    };
    assert!(refused.contains(mode), "{refused}");
    assert!(matches!(guard.protect(true), Outcome::Done { ok: true, .. }));
    assert!(guard.ask(r#"{"v":1,"op":"arm"}"#, None).contains(mode));
    let said = std::fs::read_to_string(guard.path().join("said")).expect("its words");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("DEGRADED")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains(&why), "{said}");
    assert!(!guard.path().join("pins").join("map_labels").exists());
}

#[test]
fn ten_thousand_questions_and_half_a_line_leave_it_answering() {
    let guard = Guard::start();
    let hanging = guard.connect().expect("the guard listens");
    (&hanging).write_all(b"{\"v\":1,").expect("sent");
    for _ in 0..10_000 {
        assert!(
            guard
                .ask(r#"{"v":1,"op":"status"}"#, None)
                .contains("\"enforcing\":false")
        );
    }
}

#[test]
fn where_nothing_is_denied_attempts_are_observed_if_the_kernel_loads_programs_for_that() {
    let guard = Guard::start();
    let status: Status = serde_json::from_str(&guard.ask(r#"{"v":1,"op":"status"}"#, None)).expect("a status");
    let said = std::fs::read_to_string(guard.path().join("said")).expect("its words");
    if !status.observing {
        assert!(said.contains("attempts are not observed either"), "{said}");
        println!("not observed on this machine: {said}");
        return;
    }
    assert!(said.contains("some attempts are observed, none is refused"), "{said}");
    let events = guard.connect().expect("the guard listens");
    (&events).write_all(b"{\"v\":1,\"op\":\"events\"}\n").expect("sent");
    events.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");

    // We are the unit, our child is an outsider: it was there before. What it starts afterwards is one as well.
    let mut outsider = Command::new("sh")
        .args([
            "-c",
            "read _; cat /proc/$1/environ > /dev/null; kill -CONT $1; prlimit --pid $1 --nofile > /dev/null",
            "-",
        ])
        .arg(std::process::id().to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    assert!(matches!(guard.protect(true), Outcome::Done { ok: true, .. }));
    // What the unit does to itself is nobody's attempt.
    std::fs::read(format!("/proc/{}/maps", std::process::id())).expect("our own");
    outsider.stdin.take().expect("a pipe").write_all(b"go\n").expect("told");
    outsider.wait().expect("ended");
    let mut seen = Vec::new();
    for line in BufReader::new(&events).lines() {
        let event: rempart_api::guard::Event = serde_json::from_str(&line.expect("an event in time")).expect("JSON");
        assert_eq!(
            (event.verdict.as_str(), event.target_unit.as_str()),
            ("observed", "x.service")
        );
        assert_eq!(event.target_pid, std::process::id());
        seen.push(event.vector);
        if seen.last().is_some_and(|vector| vector == "PRLIMIT") {
            break;
        }
    }
    assert_eq!(seen, ["ENVIRON_READ", "AGENT_KILL", "PRLIMIT"]);
}
