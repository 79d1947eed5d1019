//! The Verifier's start with a large registry, and its first attestation after it.

use std::time::Instant;

use anyhow::Result;

use super::Options;
use super::load;
use super::site::Site;
use crate::table::Table;

/// Starts it with the enrolled nodes of the options.
pub fn measure(options: &Options, table: &mut Table) -> Result<()> {
    println!("filling a registry with {} nodes", options.enrolled);
    let site = Site::make(&options.verifier, options.enrolled.max(1))?;
    let verifier = site.start()?;
    let began = Instant::now();
    load::once(&site, &verifier)?;
    let first = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let enrolled = options.enrolled as f64;
    table.add("start, enrolled nodes", enrolled, "", None, None);
    table.add(
        "start to first connection",
        verifier.ready.as_secs_f64() * 1e3,
        "ms",
        None,
        None,
    );
    table.add("start, first attestation", first.as_secs_f64() * 1e3, "ms", None, None);
    table.add("start, Verifier VmRSS", verifier.memory("VmRSS")?, "MiB", None, None);
    table.add("start, Verifier VmHWM", verifier.memory("VmHWM")?, "MiB", None, None);
    Ok(())
}
