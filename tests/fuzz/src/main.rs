//! Runs the fuzz targets: `./x fuzz`, and the smoke run of `./x test`. It judges only how the engine ended; what is promised about
//! a parser stands in its target.
#![forbid(unsafe_code)]

/// One engine process and its limits.
mod engine;
/// The long run.
mod hunt;
/// Making the kept corpora small.
mod minimize;
/// The short run, one test line for each target.
mod smoke;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use rempart_fuzz::{Target, all, named};

use crate::engine::Engine;

/// Coverage-guided fuzzing of every parser of foreign bytes.
#[derive(Parser)]
struct Options {
    /// The instrumented program, as `./x` builds it.
    #[arg(long, global = true, value_name = "FILE")]
    engine: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the targets and where their bytes come from.
    List,
    /// Look for inputs that break a promise.
    Hunt {
        /// Targets; all in turn without a name.
        targets: Vec<String>,
        /// Time for each target.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Targets at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Replay every corpus and try a fixed number of mutations; one test line for each target.
    Smoke {
        /// Targets at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Rewrite the kept corpora: the fewest inputs that still reach all that was found.
    Minimize {
        /// Targets; all without a name.
        targets: Vec<String>,
    },
    /// Run one input again, under the same limits.
    Reproduce {
        /// The target.
        target: String,
        /// The input, as a hunt has kept it.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match play(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rempart-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(options: Options) -> Result<bool> {
    let engine = || match &options.engine {
        Some(file) if file.is_file() => Ok(Engine::new(file)),
        _ => bail!("the instrumented engine is not built: start by ./x fuzz"),
    };
    match &options.what {
        What::List => {
            all().for_each(|target| println!("{:<18} {}", target.name, target.from));
            Ok(true)
        }
        What::Hunt { targets, seconds, jobs } => hunt::run(&engine()?, &chosen(targets)?, *seconds, *jobs),
        What::Smoke { jobs } => smoke::run(&engine()?, *jobs),
        What::Minimize { targets } => minimize::run(&engine()?, &chosen(targets)?).map(|()| true),
        What::Reproduce { target, file } => engine()?.reproduce(one(target)?, file),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(all().collect());
    }
    names.iter().map(|name| one(name)).collect()
}

fn one(name: &str) -> Result<&'static Target> {
    match named(name) {
        Some(target) => Ok(target),
        None => bail!("there is no target {name}: ./x fuzz --list"),
    }
}
