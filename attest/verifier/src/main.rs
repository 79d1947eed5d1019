//! rempart-verifier: the owner's side of attestation. It never sees a node's memory or a vault's secrets; what it keeps of its own
//! (CA key, signing key, store) lies in its state directory and leaves only as signatures or sealed to an attested key.
#![forbid(unsafe_code)]

mod authority;
mod cli;
mod clock;
mod command;
mod config;
mod endorsements;
mod enrolment;
mod error;
mod file;
mod keys;
mod name;
mod outward;
mod registry;
mod revocation;
mod server;
mod store;

use std::process::ExitCode;

// All it knows is in secret memory. Not in unit tests: they run in any environment, and know nothing.
#[cfg(not(test))]
rempart_secretmem::whole_process!();

/// For the main thread's work, bytes. What serves runs on threads of 2 MiB.
const STACK: usize = 2 << 20;

fn main() -> ExitCode {
    rempart_secretmem::on_secret_stack(STACK, start)
}

fn start() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("REMPART_LOG")
                .unwrap_or_else(|_| "rempart_verifier=info".into()),
        )
        .init();
    match command::run(<cli::Cli as clap::Parser>::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rempart-verifier: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
