//! The promises of Rempart, played with real parts: `rempart-scenes --style demo` is `./x demo`, `--style test` the `vm` group
//! of `./x test`.

mod node;
mod promise;
mod report;
mod site;
mod stage;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use report::{Report, Style};

/// Plays the promises and says whether each one held.
#[derive(Debug, Parser)]
struct Options {
    /// How to print.
    #[arg(long, value_enum, default_value = "demo")]
    style: Style,
    /// Packages to install in the guest.
    #[arg(long = "deb", required = true)]
    debs: Vec<PathBuf>,
    /// Only the promises whose name contains this; `release` is always played.
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
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| name.contains(only));
    let on_the_node = promise::ON_THE_NODE
        .iter()
        .filter(|(name, _)| *name == "release" || wanted(name));
    report.heading("On one node, after a measured boot");
    stage.boot_the_node(report)?;
    for (name, play) in on_the_node {
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
    for (name, play) in promise::OWN_BOOT.iter().filter(|(name, _)| wanted(name)) {
        report.step(&format!("{name}: booting a machine"));
        if let Err(error) = play(&mut stage, report) {
            report.broken(&format!("{name}::played"), &error);
        }
    }
    Ok(())
}
