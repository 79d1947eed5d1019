//! The promises of Rempart, played with real parts: `rempart-scenes --style demo` is `./x demo`, `--style test` the groups `vm` and
//! (with `--group attest`) `attest` of `./x test`.

mod boot;
mod memory;
mod node;
mod promise;
mod refused;
mod report;
mod site;
mod stage;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use report::{Report, Style};

/// The groups of promises.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    /// A node's life and the attack table.
    Vm,
    /// What a host hands to a machine.
    Attest,
}

/// Plays the promises and says whether each one held.
#[derive(Debug, Parser)]
struct Options {
    /// How to print.
    #[arg(long, value_enum, default_value = "demo")]
    style: Style,
    /// Packages to install in the guest.
    #[arg(long = "deb", required = true)]
    debs: Vec<PathBuf>,
    /// Which promises.
    #[arg(long, value_enum, default_value = "vm")]
    group: Group,
    /// The group's long ones as well.
    #[arg(long)]
    all: bool,
    /// Only the promises whose name contains one of these words, joined by commas; the group's first is always played.
    #[arg(long)]
    only: Option<String>,
    /// Use the Verifier's own store although OpenBao could be had.
    #[arg(long)]
    without_openbao: bool,
    /// Write rows and figures as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::new(options.style);
    if let Err(error) = play(&options, &mut report) {
        report.broken("scenes", &error);
    }
    if let Some(path) = &options.json
        && let Err(error) = report.write_json(path)
    {
        eprintln!("cannot write {}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    if report.close() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut stage = stage::Stage::set(&options.debs, options.without_openbao, report)?;
    let group = match options.group {
        Group::Vm => promise::VM,
        Group::Attest => promise::ATTEST,
    };
    let wanted = |name: &str| {
        options
            .only
            .as_deref()
            .is_none_or(|only| only.split(',').any(|word| name.contains(word)))
    };
    let long = if options.all { group.long } else { &[] };
    report.heading("On one node, after a measured boot");
    let boot = (group.boot)(&stage)?;
    stage.boot_the_node(boot, report)?;
    for (number, (name, play)) in group.on_the_node.iter().enumerate() {
        if number > 0 && !wanted(name) {
            continue;
        }
        report.step(name);
        let bad = report.bad();
        if let Err(error) = play(&mut stage, report) {
            report.broken(&format!("{name}::played"), &error);
        }
        if report.bad() > bad {
            stage.keep_evidence(name);
        }
    }
    stage.stop_the_node();
    report.heading("Boots that must not end in a secret");
    for (name, play) in group.own_boot.iter().chain(long).filter(|(name, _)| wanted(name)) {
        report.step(&format!("{name}: booting a machine"));
        if let Err(error) = play(&mut stage, report) {
            report.broken(&format!("{name}::played"), &error);
        }
    }
    Ok(())
}
