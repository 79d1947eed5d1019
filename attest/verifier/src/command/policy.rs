//! `policy install|show`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use rempart_attest::policy::Policy;

use super::{act, operator, with_registry};
use crate::cli;
use crate::clock;
use crate::config::{self, Config};
use crate::error::Error;
use crate::file;
use crate::registry::StoredPolicy;

pub fn run(what: &cli::Policy, config: &Config) -> Result<(), Error> {
    match what {
        cli::Policy::Install { file } => install(file, config),
        cli::Policy::Show => show(config),
    }
}

fn install(path: &Path, config: &Config) -> Result<(), Error> {
    let text = file::read(path)?;
    let signatures = signatures(path)?;
    let now = clock::now();
    let signers = config
        .signers()?
        .verify(&text, &signatures, now, config.signatures_required)?;
    // Only what trusted signers wrote is parsed.
    let policy = Policy::parse(&text)?;
    let stored = StoredPolicy {
        text,
        signatures,
        signers: signers.join(", "),
        since: now,
    };
    let operator = operator();
    with_registry(config, |registry| async move {
        registry
            .install_policy(&stored, policy.counter, &act(&operator, config))
            .await?;
        let images: Vec<&str> = policy.images.iter().map(|i| i.name.as_str()).collect();
        println!(
            "policy \"{}\" (counter {}) signed by {} is in force for {}",
            policy.name,
            policy.counter,
            stored.signers,
            images.join(", ")
        );
        Ok(())
    })
}

/// FILE.sig, and FILE.sig2, FILE.sig3, … as far as there are any: one after the other.
fn signatures(path: &Path) -> Result<String, Error> {
    let beside = |end: &str| PathBuf::from([path.as_os_str(), end.as_ref()].into_iter().collect::<OsString>());
    let mut all = file::read_text(&beside(".sig"))?;
    for number in 2..=config::SIGNATURES {
        let more = beside(&format!(".sig{number}"));
        if !more.exists() {
            break;
        }
        all.push('\n');
        all.push_str(&file::read_text(&more)?);
    }
    Ok(all)
}

fn show(config: &Config) -> Result<(), Error> {
    with_registry(config, |registry| async move {
        let stored = registry.policy().await?;
        let stored = stored
            .ok_or_else(|| Error::Usage("no policy is installed: rempart-verifier policy install FILE".into()))?;
        println!(
            "# signed by {}, installed {}",
            stored.signers,
            clock::show(stored.since)
        );
        let written = std::io::stdout().write_all(&stored.text);
        written.map_err(|source| Error::Write {
            path: "/dev/stdout".into(),
            source,
        })
    })
}
