//! `node add|rm|list`.

use rempart_attest::Fixed;

use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::name;
use crate::registry::{self, EnrolledEk, LISTED, Node, RegistryError};

pub fn run(what: cli::Node, config: &Config) -> Result<(), Error> {
    let registry = registry::open(&config.state_dir)?;
    match what {
        cli::Node::Add { name, role, ek } => {
            name::node(&name).map_err(RegistryError::from)?;
            for role in &role {
                name::role(role).map_err(RegistryError::from)?;
            }
            let ek = ek.map(|hex| listed(&hex)).transpose()?;
            registry.add_node(&name, &role)?;
            if let Some(ek) = ek {
                registry.bind_ek(&name, &ek)?;
            }
            println!("node {name} may enrol, roles: {}", words(&role));
        }
        cli::Node::Rm { name } => {
            registry.remove_node(&name)?;
            println!(
                "node {name} and its TPM are forgotten; results given before live {} s at most",
                rempart_attest::ear::LIFE
            );
        }
        cli::Node::List => registry.nodes()?.iter().for_each(print),
    }
    Ok(())
}

/// An EK that the operator vouches for.
fn listed(hex: &str) -> Result<EnrolledEk, Error> {
    let fingerprint = Fixed::from_hex(hex).ok_or_else(|| Error::Usage("--ek takes 64 hex digits".into()))?;
    Ok(EnrolledEk {
        fingerprint,
        identity: LISTED.into(),
        since: clock::now(),
    })
}

fn print(node: &Node) {
    let tpm = node.ek.as_ref().map_or_else(
        || "not enrolled yet".into(),
        |ek| {
            format!(
                "EK {} ({}, since {})",
                &ek.fingerprint.to_string()[..16],
                ek.identity,
                clock::show(ek.since)
            )
        },
    );
    println!("{}  roles: {}  {tpm}", node.name, words(&node.roles));
}

fn words(list: &[String]) -> String {
    if list.is_empty() {
        "none".into()
    } else {
        list.join(", ")
    }
}
