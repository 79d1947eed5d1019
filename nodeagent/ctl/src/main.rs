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
/// `rempart status`.
mod status;
/// `rempart gate` and `events`.
mod talk;

fn main() -> std::process::ExitCode {
    match arguments::run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
