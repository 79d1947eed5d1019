//! The operator's commands, one file a family. Each loads what it needs, does one thing and prints one line or a table.

mod init;
mod node;
mod policy;
mod secret;

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::error::Error;
use crate::server;

/// Runs a command line.
pub fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Init(how) => init::run(&how),
        Command::Serve => server::run(Config::load(&cli.config)?),
        Command::Policy(what) => policy::run(&what, &Config::load(&cli.config)?),
        Command::Node(what) => node::run(what, &Config::load(&cli.config)?),
        Command::Secret(what) => secret::run(&what, &Config::load(&cli.config)?),
    }
}
