//! rempart-evidence: hands the measurement logs, which only root may read, and on request a TEE report or systemd's own report, which
//! only root may ask for, to rempartd. Started by
//! systemd for one connection (Accept=yes), which is its standard input and output. It takes one argument, for tests: the folder of
//! a file-backed TEE, whose reports production policies refuse.

#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use rempart_device::{
    logs::Logs,
    service::{Answer, Question, ServiceError, SystemdAnswer, TeeAnswer},
    systemd, tee,
};

/// The question arrives with the connection. A peer that neither sends one nor ends its side is taken to ask for the logs, as peers
/// did before there were questions.
const QUESTION: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let Ok(files) = folder(std::env::args_os().skip(1)) else {
        eprintln!("rempart-evidence: usage: rempart-evidence [--tee-directory DIR]");
        return ExitCode::from(rempart_api::exit::USAGE);
    };
    match serve(files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rempart-evidence: {error}; nothing was sent, so this machine cannot attest until it is mended");
            ExitCode::from(rempart_api::exit::OS)
        }
    }
}

fn folder(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<PathBuf>, ()> {
    match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(None),
        (Some(option), Some(folder), None) if option == "--tee-directory" => Ok(Some(folder.into())),
        _ => Err(()),
    }
}

fn serve(files: Option<PathBuf>) -> Result<(), ServiceError> {
    let request = match question()? {
        None => None,
        Some(Question::Tee(request)) => Some(request),
        Some(Question::Systemd(request)) => {
            let report = systemd::collect(Path::new(systemd::SOCKET), &request.systemd_report_nonce);
            return SystemdAnswer::from(report).write(io::stdout().lock());
        }
    };
    // The report first: the logs then cover everything up to it.
    let tee = request.map(|request| {
        let sources = tee::sources(files.as_deref());
        TeeAnswer::from(tee::collect(sources, request.provider, &(&request).into()))
    });
    let logs = Logs::collect()?;
    match tee {
        None => logs.write(io::stdout().lock()),
        Some(tee) => Answer { logs, tee }.write(io::stdout().lock()),
    }
}

/// By read(2) in a thread: the unit's system call filter has nothing that is only for sockets, not even a time-out for one.
fn question() -> Result<Option<Question>, ServiceError> {
    let (asked, question) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens any more when it was late.
        let _ = asked.send(Question::read(io::stdin().lock()));
    });
    question.recv_timeout(QUESTION).unwrap_or(Ok(None))
}
