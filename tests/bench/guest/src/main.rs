//! The part of `./x bench ebpf` that runs in the guest, in three roles:
//!
//!     rempart-bench-guest drive --rounds N [PART]   asks the others in turn and prints what it measured, of what has PART in its name
//!     rempart-bench-guest subject                   does on request what is measured; one of two is protected
//!     rempart-bench-guest switch                    detaches and attaches the guard's programs
//!
//! Programs that are loaded stay, and nobody but the guard can detach them. The switch is the guard as far as the programs can tell:
//! PID 1 starts it from the guard's own inode, whose content the test has replaced. So there is no way in the product for it.

/// bpf(2), as far as the switch needs it.
mod bpf;
/// The order of the measurement.
mod drive;
/// Single system calls.
mod lines;
/// Real servers and a compiler.
mod loads;
/// Does what is measured.
mod subject;
/// Detaches and attaches.
mod switch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["drive", "--rounds", rounds, rest @ ..] => rounds
            .parse()
            .map_err(|_| format!("--rounds wants a number, not {rounds:?}"))
            .and_then(|rounds| drive::run(rounds, rest.first().copied().unwrap_or_default())),
        ["subject"] => subject::serve(),
        ["switch"] => switch::serve(),
        _ => Err("usage: rempart-bench-guest drive --rounds N [PART] | subject | switch".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // The host reads it as the reason why there are no figures.
            println!("failed\t{why}");
            ExitCode::FAILURE
        }
    }
}

/// The outcome of everything here: the reason goes to the host as one line.
type Result<T> = std::result::Result<T, String>;

/// Where the test's files and sockets are: memory, like all of the guest's writable files.
const FOLDER: &str = "/run/bench";

/// `what: error`, for `map_err`.
fn at<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
