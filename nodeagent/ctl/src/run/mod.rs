//! `rempart run`: starts a service as if it were a command of this terminal, and ends as it ends.
//!
//! What may be run with which secrets is the agent's to say (docs/adr/0018): a service that had opted in when the machine
//! booted, or a command under a role that the configuration names in `[run] roles`.

use std::process::ExitCode;

use crate::{
    failure::Failure,
    units::{ServiceName, section::Section},
};

/// A command as a unit of its own.
mod command;
/// Until the unit has ended.
mod follow;
/// A service that the machine has.
mod service;
/// Standard input, output and error of such a service.
mod streams;

/// `run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit status is the command's, or 128 and the number of the signal that ended it. SIGINT, SIGTERM, SIGHUP and \
    SIGQUIT go on to its processes."
)]
pub struct Run {
    /// A service that opted in before this boot and was wrapped with --run: its command, its secrets.
    #[arg(required_unless_present = "command", conflicts_with_all = ["command", "role", "secrets", "deliver", "protect", "leak",
        "leak_except", "memory", "memory_size", "uid", "property", "setenv", "same_dir"])]
    unit: Option<ServiceName>,
    #[command(flatten)]
    own: Own,
}

/// A command that no unit file defines.
#[derive(Debug, clap::Args)]
pub struct Own {
    #[command(flatten)]
    section: Section,
    /// The user that runs it.
    #[arg(long, value_name = "USER")]
    uid: Option<String>,
    /// A setting of the section [Service].
    #[arg(long, short, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// An environment variable; without a value, as it is here.
    #[arg(long, short = 'E', value_name = "NAME[=VALUE]")]
    setenv: Vec<String>,
    /// Run it in this folder, not in /.
    #[arg(long, short = 'd')]
    same_dir: bool,
    /// The command, under a role that [run] roles in rempart.toml names.
    #[arg(last = true, requires = "role")]
    command: Vec<String>,
}

/// Does what was asked.
pub async fn run(bus: Option<&str>, told: &Run) -> Result<ExitCode, Failure> {
    match &told.unit {
        Some(unit) => service::run(bus, unit).await,
        None => command::run(bus, &told.own).await,
    }
}
