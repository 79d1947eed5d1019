//! The operator's commands, one file a family. Each loads what it needs, does one thing and prints one line or a table.

mod history;
mod init;
mod node;
mod policy;
mod secret;

use std::future::Future;

use crate::cli::{Cli, Command};
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::registry::{Act, Registry};
use crate::server;

/// Runs a command line.
pub fn run(cli: Cli) -> Result<(), Error> {
    let load = || {
        let config = Config::load(&cli.config)?;
        config.memory.settle()?;
        Ok::<_, Error>(config)
    };
    match cli.command {
        Command::Init(how) => init::run(&how),
        Command::Serve => server::run(load()?),
        Command::Policy(what) => policy::run(&what, &load()?),
        Command::Node(what) => node::run(what, &load()?),
        Command::Secret(what) => secret::run(&what, &load()?),
        Command::History { node, json } => history::run(node, json, &load()?),
    }
}

/// Opens the registry and does one thing with it.
fn with_registry<F: Future<Output = Result<(), Error>>>(
    config: &Config,
    work: impl FnOnce(Registry) -> F,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async { work(Registry::open(&config.registry).await?).await })
}

/// Who runs this command, for the history: the name behind sudo where there is one. It is what the caller's environment says, and the
/// caller may write the registry anyhow.
fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let name: String = name
        .unwrap_or_else(|| "unknown".into())
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(64)
        .collect();
    format!("operator:{name}")
}

/// An operator's act, now.
fn act<'a>(operator: &'a str, config: &Config) -> Act<'a> {
    Act {
        who: operator,
        at: clock::now(),
        vault: config.vault.is_some(),
    }
}

/// One line of JSON.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}
