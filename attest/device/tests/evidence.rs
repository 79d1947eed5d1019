//! The program rempart-evidence as systemd starts it: one connection, which is its standard input and output.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use rempart_attest::{Fixed, TeeKind, TeeProvider};
use rempart_device::{
    logs::Logs,
    service::{Answer, Request, SystemdAnswer, SystemdRequest, TeeAnswer},
    systemd,
};

const REQUEST: Request = Request {
    report_data: Fixed([0xab; 64]),
    vmpl: None,
    provider: None,
};

fn start(arguments: &[&str]) -> (Child, UnixStream) {
    let (ours, its) = UnixStream::pair().expect("pair");
    let input = OwnedFd::from(its.try_clone().expect("clone"));
    let child = Command::new(env!("CARGO_BIN_EXE_rempart-evidence"))
        .args(arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(OwnedFd::from(its)))
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    (child, ours)
}

/// Sends `question`, ends our side, and reads to the end. A connection that is reset had something that was not read to its end.
fn ask(arguments: &[&str], question: &[u8]) -> (bool, Vec<u8>) {
    let (mut child, mut stream) = start(arguments);
    stream.write_all(question).expect("send");
    stream.shutdown(Shutdown::Write).expect("end");
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    (child.wait().expect("ended").success(), answer)
}

fn tee(arguments: &[&str], request: &Request) -> TeeAnswer {
    let (success, answer) = ask(arguments, &request.to_bytes());
    assert!(success);
    Answer::parse(&answer).expect("answer").tee
}

fn folder(generate: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("kind"), "sev-snp").expect("write");
    let program = folder.path().join("generate");
    std::fs::write(&program, generate).expect("write");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
    folder
}

#[test]
fn without_a_question_the_answer_is_the_logs_alone() {
    let (success, answer) = ask(&[], b"");
    assert!(success);
    Logs::parse(&answer).expect("logs");
    // A peer of the time before questions neither sends nor ends its side.
    let (mut child, mut stream) = start(&[]);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answer");
    assert!(child.wait().expect("ended").success());
    Logs::parse(&answer).expect("logs");
}

#[test]
fn a_report_comes_over_the_data_that_was_asked_for() {
    let folder = folder("#!/bin/sh\nprintf %s \"$1\"\n");
    let directory = folder.path().to_str().expect("path");
    let TeeAnswer::Report(found) = tee(&["--tee-directory", directory], &REQUEST) else {
        panic!("no report")
    };
    assert_eq!((found.kind, found.provider), (TeeKind::SevSnp, TeeProvider::File));
    assert_eq!(found.report.0, "ab".repeat(64).as_bytes());
}

/// This machine has no TEE: the same question is answered with the reason by each way, and the logs come all the same.
#[test]
fn a_machine_without_a_tee_says_so_by_each_way() {
    assert!(!Path::new("/dev/sev-guest").exists() && !Path::new("/sys/kernel/config/tsm").exists());
    let TeeAnswer::Absent(why) = tee(&[], &REQUEST) else {
        panic!("a report?")
    };
    assert!(why.contains("configfs-tsm") && why.contains("sev-guest"), "{why}");
    let only = Request {
        provider: Some(TeeProvider::File),
        ..REQUEST
    };
    assert!(matches!(tee(&[], &only), TeeAnswer::Absent(why) if why.contains("not asked here")));
}

/// Where this machine's systemd makes none. The real one is asked in tests/fixtures/systemd-report/README.md.
#[test]
fn a_machine_without_systemds_report_says_so() {
    assert!(!Path::new(systemd::SOCKET).exists());
    let question = SystemdRequest {
        systemd_report_nonce: Fixed([7; 32]),
    };
    let (success, answer) = ask(&[], &question.to_bytes());
    assert!(success);
    let answer = SystemdAnswer::parse(&answer).expect("answer");
    assert!(matches!(answer, SystemdAnswer::Absent(why) if why.contains(systemd::SOCKET)));
}

#[test]
fn a_broken_tee_is_a_failure_and_the_logs_still_come() {
    let folder = folder("#!/bin/sh\necho half; exit 9\n");
    let directory = folder.path().to_str().expect("path");
    let answer = tee(&["--tee-directory", directory], &REQUEST);
    assert!(matches!(answer, TeeAnswer::Failed(why) if why.contains("exit status: 9")));
}

#[test]
fn a_foreign_question_or_argument_gets_nothing() {
    for question in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300]] {
        let (success, answer) = ask(&[], question);
        assert!(!success && answer.is_empty());
    }
    let (success, answer) = ask(&["--help"], b"");
    assert!(!success && answer.is_empty());
}
