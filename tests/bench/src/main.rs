//! Figures of the real product, and the promises about units that they rest on: `./x bench`, part of `./x test systemd`.

#![forbid(unsafe_code)]

/// What attestation costs.
mod attest;
/// The promises, as tests.
mod check;
/// Credentials, and who asks in a unit's name.
mod credential;
/// What the guard's programs cost.
mod ebpf;
/// Parts of a node that break.
mod faults;
/// Many units while the vault is not well.
mod load;
/// What secret memory costs real programs.
mod memory;
/// A node in a container: everything real but the machine.
mod node;
/// Real programs and systemd's credentials.
mod programs;
/// The program whose start is measured.
mod stamp;
/// Rows, their table and their file.
mod table;
/// What a wrapped unit costs.
mod units;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Benchmarks of Rempart.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start time and memory: units with Rempart against the same units without.
    Units {
        /// Starts of each kind.
        #[arg(long, default_value_t = 200)]
        rounds: usize,
        /// The node's package.
        deb: PathBuf,
    },
    /// Many units started again and again while the vault is killed, sealed, stopped and restarted: what they get, and what is left over.
    Load {
        /// Units.
        #[arg(long, default_value_t = 200)]
        units: usize,
        /// Minutes of restarts.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// The node's package.
        deb: PathBuf,
    },
    /// A short load, and one part of the node after another broken; prints one line a test.
    Faults {
        /// The node's package.
        deb: PathBuf,
    },
    /// Real programs on a secret heap: copies of their secrets that can be read, starts, work and forks, beside ordinary memory.
    Memory {
        /// Rounds of each kind.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// librempart_heap.so.
        library: PathBuf,
    },
    /// Real programs on a secret heap keep no copy of a secret that can be read; prints one line a test.
    Copies {
        /// librempart_heap.so.
        library: PathBuf,
    },
    /// Appraisals a second; a fleet against one Verifier; its start with many enrolled nodes.
    Attest(attest::Options),
    /// What the guard's programs add to system calls and to real loads.
    Ebpf(ebpf::Options),
    /// The figures that the scenes wrote, as a benchmark's.
    Scenes {
        /// Name of the benchmark.
        name: String,
        /// What the scenes wrote.
        file: PathBuf,
    },
    /// The real agent's promises to units; prints one line a test.
    Check {
        /// What tests/systemd/readers/build has made.
        #[arg(long)]
        readers: PathBuf,
        /// The node's package.
        deb: PathBuf,
    },
    /// Writes the time to a file, and how long the delivered secret is.
    Stamp {
        /// The file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    // Before anything else runs: this is what the benchmark waits for.
    let now = stamp::now();
    match play(now) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rempart-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(now: u64) -> anyhow::Result<bool> {
    match Options::parse().what {
        What::Stamp { file } => stamp::write(now, &file).map(|()| true),
        What::Attest(options) => attest::measure(&options)?.publish("attest").map(|()| true),
        What::Ebpf(options) => ebpf::measure(&options)?.publish("ebpf").map(|()| true),
        What::Scenes { name, file } => table::of_scenes(&file)?.publish(&name).map(|()| true),
        What::Units { rounds, deb } => {
            rempart_harness::in_own_mounts()?;
            units::measure(&deb, rounds)?.publish("units").map(|()| true)
        }
        What::Load { units, minutes, deb } => {
            rempart_harness::in_own_mounts()?;
            load::measure(&deb, units, minutes).map(|()| true)
        }
        What::Faults { deb } => {
            rempart_harness::in_own_mounts()?;
            faults::all(&deb)
        }
        What::Memory { rounds, library } => memory::cost::measure(&library, rounds)?
            .publish("memory")
            .map(|()| true),
        What::Copies { library } => Ok(memory::copies::check(&library)),
        What::Check { readers, deb } => {
            rempart_harness::in_own_mounts()?;
            check::all(&readers, &deb)
        }
    }
}
