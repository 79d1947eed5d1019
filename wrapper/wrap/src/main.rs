//! rempart-wrap: the first program of an opted-in unit. It asks the agent for the unit's secrets, shuts the doors of
//! its own process, hands the secrets over and becomes the service.
//!
//! Must never start the service without its secrets, never print one, and never leave a process of its own behind:
//! the service takes over this very process, so that MainPID, sd_notify, socket activation and watchdog stay as they
//! are.

#![cfg_attr(not(test), no_main)]
// `main` is absent from the test build, so nothing calls the story there.
#![cfg_attr(test, allow(dead_code))]
#![deny(unsafe_code)]

// All that it knows is in secret memory.
#[cfg(not(test))]
rempart_secretmem::whole_process!();

/// The command line.
mod args;
/// Core dumps off, and the limits that go with it.
mod arm;
/// The question to the agent.
mod ask;
/// Secrets to descriptors and variables.
mod deliver;
/// What can go wrong, and the exit code it gives.
mod error;
/// The service's secret heap.
mod heap;
/// Files that belong to whom the unit says.
mod owner;
/// Whether something can be preloaded into a program.
mod program;
/// The whole story.
mod run;
/// The two calls that safe Rust does not have.
mod system;
