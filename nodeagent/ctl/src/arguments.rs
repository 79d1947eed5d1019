//! Command line.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{
    agent, attest,
    breakglass::{self, BreakGlass},
    doctor,
    failure::Failure,
    policy::{self, PolicyCommand},
    run::{self, Run},
    seal::{self, Seal},
    setup::{self, Setup},
    status, talk,
    units::{
        ServiceName,
        diff::{self, Diff},
        validate::{self, Validate},
        wrap::{self, Unwrap, Wrap},
    },
};

/// Node agent for confidential machines: state, attestation, events, and health.
#[derive(Debug, Parser)]
#[command(name = "rempart", version, about, arg_required_else_help = true)]
struct Arguments {
    /// D-Bus address instead of the system bus.
    #[arg(long, hide = true, global = true)]
    bus: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What state the node is in, and what is protected.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Attest now; the only way out of a refusal.
    Attest(Attest),
    /// Wait until the node is unlocked (exit 0) or refused (exit 77); a lapse or an absent Verifier is waited out.
    Gate,
    /// What was released, refused and attempted.
    Events {
        /// As JSON lines, each as it stands in the audit log.
        #[arg(long)]
        json: bool,
        /// How many, counted from the end.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        number: u32,
    },
    /// Reference values for the Verifier.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Values that this machine's TPM keeps ([vault] kind = "tpm").
    #[command(subcommand)]
    Seal(Seal),
    /// Lift a protection for a while, by the owner's signed word.
    #[command(subcommand)]
    BreakGlass(BreakGlass),
    /// From an installed package to a node that can attest: what the machine lacks, the configuration, files for the owner.
    Setup(Setup),
    /// What this machine lacks, what is in force, and what to do about it.
    #[command(
        after_help = "Looks only. Exit status 0: all is well; 1: all works, and something is weaker than it could be, or could not be looked \
        at (as another user than root, or without the agent); 71: a service gets no secret, or a secret has not the protection that it should \
        have. The JSON object is described in docs/doctor.schema.json."
    )]
    Doctor {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Opt a service in by a drop-in: which secrets it gets, and how.
    Wrap(Wrap),
    /// Remove the drop-in that wrap wrote.
    Unwrap(Unwrap),
    /// A service's commands as written against as systemd will run them.
    Diff(Diff),
    /// What is wrong with the services that opted in.
    Validate(Validate),
    /// Give running services new secrets now, each as its OnRotate= says.
    Rotate {
        /// Services, with or without `.service`.
        #[arg(required_unless_present = "all", value_name = "UNIT")]
        units: Vec<ServiceName>,
        /// Every service that got secrets and may get new ones, one after the other.
        #[arg(long, conflicts_with = "units")]
        all: bool,
    },
    /// Run a service, or a command, with its secrets on this terminal.
    Run(Run),
    /// Man pages, one a command, into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// Completion script for a shell, on standard output.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// `attest`, or what belongs to it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
struct Attest {
    #[command(subcommand)]
    command: Option<AttestCommand>,
    #[command(flatten)]
    save: SaveEvidence,
}

#[derive(Debug, Subcommand)]
enum AttestCommand {
    /// The key file that makes systemd sign its own reports with this node's attestation key, on standard output: no secret. It
    /// belongs in /var/lib/systemd/report.sign.tpm2/default.key, anew when the TPM or tpm.ak is another one.
    SystemdKey {
        /// The release of systemd that reads it.
        #[arg(long, value_name = "RELEASE", default_value_t = 262, value_parser = clap::value_parser!(u32).range(262..))]
        systemd: u32,
    },
}

/// What `attest` is told.
#[derive(Debug, clap::Args)]
pub struct SaveEvidence {
    /// Write the Evidence that was sent to this file, accepted or not: for policy learn and policy test.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Its format; by default the one that the file's name ends in, JSON for any other name.
    #[arg(long, value_enum, requires = "save")]
    pub format: Option<EvidenceFormat>,
}

/// How Evidence is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvidenceFormat {
    /// For people.
    Json,
    /// As it was sent.
    Cbor,
}

impl EvidenceFormat {
    /// By the name of the file.
    pub fn of(file: &Path) -> Self {
        match file.extension() {
            Some(extension) if extension == "cbor" => Self::Cbor,
            _ => Self::Json,
        }
    }
}

/// Reads the command line and does what it says. Bad usage ends the process with EX_USAGE.
pub fn command_line() -> Result<ExitCode, Failure> {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        // Help and version are no errors and go to standard output.
        let code = if error.use_stderr() {
            rempart_api::exit::USAGE
        } else {
            0
        };
        let _ = error.print();
        std::process::exit(i32::from(code));
    });
    let bus = arguments.bus.as_deref();
    match arguments.command {
        Command::Status { json } => block(async { status::status(&agent::connect(bus).await?, json).await }),
        Command::Attest(Attest { command: None, save }) => {
            block(async { attest::attest(&agent::connect(bus).await?, &save).await })
        }
        Command::Attest(Attest {
            command: Some(AttestCommand::SystemdKey { systemd }),
            ..
        }) => block(async { attest::systemd_key(&agent::connect(bus).await?, systemd).await }),
        Command::Gate => block(async { talk::gate(&agent::connect(bus).await?).await }),
        Command::Events { json, number } => {
            block(async { talk::events(&agent::connect(bus).await?, json, number).await })
        }
        Command::Policy(asked) => policy::run(&asked),
        Command::Seal(asked) => block(async { seal::run(&agent::connect(bus).await?, &asked).await }),
        Command::BreakGlass(asked) => block(breakglass::run(bus, &asked)),
        Command::Wrap(told) => wrap::wrap(&told),
        Command::Unwrap(told) => wrap::unwrap(&told),
        Command::Diff(told) => diff::diff(&told),
        Command::Validate(told) => block(validate::validate(bus, &told)),
        Command::Rotate { units, all } => block(async { talk::rotate(&agent::connect(bus).await?, &units, all).await }),
        Command::Run(told) => block(run::run(bus, &told)),
        Command::Man { folder } => man(&folder),
        Command::Setup(told) => setup::run(&told),
        Command::Doctor { json } => block(doctor::run(bus, json)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "rempart", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// For packages: rempart(1), and one page a command.
fn man(folder: &Path) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| Failure::Input {
        path: folder.display().to_string(),
        why: error.to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn block(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("no run time: {error}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
