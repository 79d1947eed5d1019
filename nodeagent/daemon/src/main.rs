//! rempartd: the node agent. Proves the machine to the owner's Verifier, and releases secrets to the units they belong to.

#![forbid(unsafe_code)]

/// Digests that the guard keeps for this boot.
mod anchor;
/// Challenge, Evidence, result.
mod attest;
/// The audit log's file.
mod audit;
/// org.rempart.NodeAgent1 on the system bus.
mod bus;
/// Clocks and the boot.
mod clock;
/// rempart-guard, as its client sees it.
mod guard;
/// Requests for jobs of units.
mod jobs;
/// What an agent that is started again has to know.
mod kept;
/// What running units hold for a time only.
mod lease;
/// What a lock means for running units.
mod lock;
/// Log lines for the journal.
mod log;
/// What is mounted at the places that the agent trusts.
mod mounts;
/// The state machine, driven.
mod node;
/// Whether the Verifier has another policy.
mod policy;
/// Secrets for a unit, over the agent socket.
mod release;
/// All parts put together.
mod run;
/// Secrets that the node's TPM keeps.
mod sealed;
/// Command line and configuration, judged before anything is opened.
mod setup;
/// Suspend and resume.
mod sleep;
/// systemd as seen from a service.
mod systemd;
/// The TPM, used by one thread.
mod tpm;

// All it knows is in secret memory. Not in unit tests: they run in any environment, and know nothing.
#[cfg(not(test))]
rempart_secretmem::whole_process!();

/// For each thread, bytes. All of it counts against RLIMIT_MEMLOCK, and the agent fits into the 8 MiB that any process has.
const STACK: usize = 768 << 10;

fn main() -> std::process::ExitCode {
    rempart_secretmem::on_secret_stack(STACK, start)
}

fn start() -> std::process::ExitCode {
    log::start();
    match setup::Setup::load() {
        Ok(setup::Start::Agent(setup)) => run::run(*setup),
        Ok(setup::Start::Answered(line)) => {
            println!("{line}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => run::misconfigured(&error),
    }
}
