//! What attestation costs: one thread's appraisals beside the bare signature checks, a fleet against one real Verifier, and the
//! Verifier's start with a large registry. The load generator runs on the same machine; its rows say so.

/// Appraisals a second on one thread.
mod appraisals;
/// HTTPS from a node's own address.
mod client;
/// Nodes with keys of their own.
mod fleet;
/// Attestations by a schedule, against a real Verifier.
mod load;
/// The Verifier with its files.
mod site;
/// Start with a large registry.
mod start;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::table::Table;

/// How large and how long.
#[derive(Debug, Args)]
pub struct Options {
    /// The optimised rempart-verifier.
    #[arg(long, value_name = "FILE")]
    verifier: PathBuf,
    /// Nodes of the fleet, each with its own keys and its own loopback address.
    #[arg(long, default_value_t = 100_000)]
    nodes: usize,
    /// Attestations a second.
    #[arg(long, default_value_t = 1200.0)]
    rate: f64,
    /// How long the fleet attests.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Enrolled nodes at the measured start.
    #[arg(long, default_value_t = 1_000_000)]
    enrolled: usize,
    /// How long each appraisal row is measured, in seconds.
    #[arg(long, default_value_t = 3.0)]
    each: f64,
    /// Only these parts; may be given several times.
    #[arg(long)]
    only: Vec<Part>,
}

/// The parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Appraisals,
    Load,
    Start,
}

/// Measures.
pub fn measure(options: &Options) -> Result<Table> {
    let mut table = Table::default();
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if wanted(Part::Appraisals) {
        appraisals::measure(options.each, &mut table)?;
    }
    if wanted(Part::Load) {
        load::measure(options, &mut table)?;
    }
    if wanted(Part::Start) {
        start::measure(options, &mut table)?;
    }
    Ok(table)
}
