//! rempart: the command line of the node agent.

#![forbid(unsafe_code)]

/// The agent, as its client sees it on the bus.
mod agent;
/// Command line.
mod arguments;
/// `rempart attest`.
mod attest;
/// `rempart break-glass`.
mod breakglass;
/// `rempart doctor`.
mod doctor;
/// Exit codes and the one line that goes with each.
mod failure;
/// `rempart policy`.
mod policy;
/// `rempart run`.
mod run;
/// `rempart seal`.
mod seal;
/// `rempart setup`.
mod setup;
/// `rempart status`.
mod status;
/// systemd, as its client sees it on the bus.
mod systemd;
/// `rempart gate` and `events`.
mod talk;
/// `rempart wrap`, `unwrap`, `diff` and `validate`.
mod units;
/// Files that come to be whole or not at all.
mod whole;

fn main() -> std::process::ExitCode {
    match arguments::command_line() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
