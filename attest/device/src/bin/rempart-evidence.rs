//! rempart-evidence: hands the measurement logs, which only root may read, and on request a TEE report to rempartd. Started by
//! systemd for one connection (Accept=yes), which is its standard input and output. It takes one argument, for tests: the folder of
//! a file-backed TEE, whose reports production policies refuse.

#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use rempart_device::{
    logs::Logs,
    service::{Answer, Request, ServiceError, TeeAnswer},
    tee,
};

/// The question arrives with the connection.
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
    let connection = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    connection.set_read_timeout(Some(QUESTION))?;
    let request = Request::read(&connection)?;
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
