//! `policy install|show`.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use rempart_attest::policy::Policy;

use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::file;
use crate::registry::{self, StoredPolicy};

pub fn run(what: &cli::Policy, config: &Config) -> Result<(), Error> {
    match what {
        cli::Policy::Install { file } => install(file, config),
        cli::Policy::Show => show(config),
    }
}

fn install(path: &Path, config: &Config) -> Result<(), Error> {
    let text = file::read(path)?;
    let signature = file::read_text(Path::new(
        &[path.as_os_str(), ".sig".as_ref()].into_iter().collect::<OsString>(),
    ))?;
    let signers = config.signers()?;
    let signer = signers.verify(&text, &signature, clock::now(), 1)?.join(", ");
    // Only what a trusted signer wrote is parsed.
    let policy = Policy::parse(&text)?;
    let stored = StoredPolicy {
        text,
        signer,
        since: clock::now(),
    };
    registry::open(&config.state_dir)?.install_policy(&stored, policy.counter)?;
    let images: Vec<&str> = policy.images.iter().map(|i| i.name.as_str()).collect();
    println!(
        "policy \"{}\" (counter {}) signed by {} is in force for {}",
        policy.name,
        policy.counter,
        stored.signer,
        images.join(", ")
    );
    Ok(())
}

fn show(config: &Config) -> Result<(), Error> {
    let stored = registry::open(&config.state_dir)?.policy()?;
    let stored =
        stored.ok_or_else(|| Error::Usage("no policy is installed: rempart-verifier policy install FILE".into()))?;
    println!("# signed by {}, installed {}", stored.signer, clock::show(stored.since));
    let written = std::io::stdout().write_all(&stored.text);
    written.map_err(|source| Error::Write {
        path: "/dev/stdout".into(),
        source,
    })
}
