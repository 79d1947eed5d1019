//! `node add|rm|clear|approve|list`.

use rempart_attest::Fixed;
use serde_json::json;

use super::{act, operator, print_json, with_registry};
use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::name;
use crate::registry::{EnrolledEk, LISTED, Node, Registry, RegistryError};

/// Hex digits of an EK's fingerprint that are enough to mean one: 64 bits that a stranger cannot hit.
const ENOUGH: usize = 16;

pub fn run(what: cli::Node, config: &Config) -> Result<(), Error> {
    let operator = operator();
    with_registry(config, |registry| async move {
        let act = act(&operator, config);
        match what {
            cli::Node::Add { name, role, ek } => {
                name::node(&name).map_err(RegistryError::from)?;
                for role in &role {
                    name::role(role).map_err(RegistryError::from)?;
                }
                let ek = ek.map(|hex| listed(&hex)).transpose()?;
                registry.add_node(&name, &role, ek.as_ref(), &act).await?;
                println!("node {name} may enrol, roles: {}", words(&role));
            }
            cli::Node::Rm { name } => {
                registry.remove_node(&name, &act).await?;
                let life = rempart_attest::ear::LIFE;
                println!("node {name} and its TPM are forgotten; results given before live {life} s at most");
            }
            cli::Node::Clear { name } => {
                registry.clear(&name, &act).await?;
                println!("node {name} may attest again");
            }
            cli::Node::Approve { name, ek } => {
                let ek = waiting(&registry, &name, &ek).await?;
                registry.approve(&name, &ek, &act).await?;
                println!("node {name} is approved with the TPM {ek}");
            }
            cli::Node::List { json } => list(&registry, json).await?,
        }
        Ok(())
    })
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

/// The whole fingerprint of the holder that the operator means by its first digits.
async fn waiting(registry: &Registry, name: &str, prefix: &str) -> Result<Fixed<32>, Error> {
    let prefix = prefix.to_ascii_lowercase();
    if prefix.len() < ENOUGH || !prefix.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Error::Usage(format!("--ek takes at least {ENOUGH} hex digits")));
    }
    let node = registry
        .node(name)
        .await?
        .ok_or_else(|| RegistryError::UnknownNode(name.into()))?;
    let holder = node.ek.filter(|ek| ek.fingerprint.to_string().starts_with(&prefix));
    let holder = holder.ok_or_else(|| RegistryError::NothingPending(name.into()))?;
    Ok(holder.fingerprint)
}

async fn list(registry: &Registry, json: bool) -> Result<(), Error> {
    let mut last = String::new();
    loop {
        let page = registry.nodes_after(&last).await?;
        let Some(end) = page.last() else {
            return Ok(());
        };
        last.clone_from(&end.name);
        for node in &page {
            if json {
                print_json(&view(node));
            } else {
                print(node);
            }
        }
    }
}

fn print(node: &Node) {
    let tpm = node.ek.as_ref().map_or_else(
        || "not enrolled yet".into(),
        |ek| {
            let digits = &ek.fingerprint.to_string()[..ENOUGH];
            format!("EK {digits} ({}, since {})", ek.identity, clock::show(ek.since))
        },
    );
    let seen = node.seen.as_ref().map_or_else(String::new, |seen| {
        format!("  last: {} at {}", seen.outcome, clock::show(seen.at))
    });
    let latch = node.latch.as_ref().map_or_else(String::new, |latch| {
        format!("  LATCHED since {}: {}", clock::show(latch.since), latch.reason)
    });
    println!("{}  roles: {}  {tpm}{seen}{latch}", node.name, words(&node.roles));
}

fn view(node: &Node) -> serde_json::Value {
    json!({
        "name": node.name,
        "roles": node.roles,
        "ek": node.ek.as_ref().map(|ek| json!({
            "fingerprint": ek.fingerprint, "identity": ek.identity, "since": ek.since,
        })),
        "latch": node.latch.as_ref().map(|latch| json!({ "reason": latch.reason, "since": latch.since })),
        "last": node.seen.as_ref().map(|seen| json!({ "outcome": seen.outcome, "at": seen.at })),
    })
}

fn words(list: &[String]) -> String {
    if list.is_empty() {
        "none".into()
    } else {
        list.join(", ")
    }
}
