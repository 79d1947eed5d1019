//! `rempart status`: the state, what the machine proved, and what is protected.
//!
//! Everything shown was said by the agent; only the Verifier's result makes any of it more than a claim.

use std::process::ExitCode;

use rempart_api::guard;
use rempart_attest::Finding;
use serde::Deserialize;

use crate::{agent::AgentProxy, failure::Failure, talk::one_line};

/// Everything that the agent tells of itself.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub node: String,
    pub state: String,
    pub reason: String,
    pub unlocked_until_us: u64,
    /// Nobody outside judges this machine.
    #[serde(default)]
    pub local: bool,
    pub roles: Vec<String>,
    /// Absent: an agent of an older release, which has none.
    #[serde(default)]
    pub run_roles: Vec<String>,
    pub degraded: String,
    pub guard: guard::Status,
    /// Absent: an agent of an older release.
    pub memory: Option<Memory>,
    pub units: Vec<String>,
    #[serde(default)]
    pub leases: Vec<Leases>,
    #[serde(default)]
    pub offline: Vec<Offline>,
    #[serde(default)]
    pub stopped: Vec<String>,
    #[serde(default)]
    pub not_stopped: Vec<String>,
    pub audit_head: String,
    #[serde(default)]
    pub attestation: Attestation,
}

/// What a unit holds for a time only.
#[derive(Debug, Deserialize)]
pub struct Leases {
    pub unit: String,
    pub leases: usize,
    pub ends_in_s: Option<u64>,
    pub waits_for_start: Option<String>,
}

/// Values kept for an outage of the vault.
#[derive(Debug, Deserialize)]
pub struct Offline {
    pub unit: String,
    pub age_s: u64,
    pub used: bool,
    /// Sealed to the TPM, and not in the agent's memory.
    #[serde(default)]
    pub sealed: bool,
}

/// What the agent's own heap and stacks are.
#[derive(Debug, Deserialize)]
pub struct Memory {
    pub secret: bool,
    #[serde(default)]
    pub why: String,
}

/// What the last attestation showed. Each part may be absent: the agent has not got that far, or is of another release.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attestation {
    pub tpm: Option<Tpm>,
    pub tee: Tee,
    pub result: Option<Outcome>,
    findings: Vec<Finding>,
    key_exchange: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tpm {
    pub bank: String,
    pub active_banks: Vec<String>,
    attestation_key: String,
    endorsement_key: String,
    pub certified_endorsement_keys: Vec<String>,
    tls_key: bool,
    manufacturer: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tee {
    pub kind: Option<String>,
    pub provider: Option<String>,
    pub why: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    identity: Option<String>,
    policy: Option<String>,
    policy_counter: Option<u64>,
    pub clock_ahead_s: i64,
}

/// What the agent tells of itself.
pub async fn read(agent: &AgentProxy<'_>) -> Result<Status, Failure> {
    serde_json::from_str(&agent.status().await?).map_err(Failure::AgentMalformed)
}

/// `rempart status`.
pub async fn status(agent: &AgentProxy<'_>, json: bool) -> Result<ExitCode, Failure> {
    let text = agent.status().await?;
    if json {
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let status: Status = serde_json::from_str(&text).map_err(Failure::AgentMalformed)?;
    println!("node        {}", status.node);
    let reason = if status.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", one_line(&status.reason))
    };
    println!("state       {}{reason}", status.state);
    if status.local {
        println!(
            "            local: nobody outside has judged this machine; its TPM compares the boot with that of the first sealed value"
        );
    }
    if status.unlocked_until_us > 0 {
        let seconds = (status.unlocked_until_us / 1_000_000).saturating_sub(now_s());
        println!(
            "lapses in   {} min {} s unless attested again before",
            seconds / 60,
            seconds % 60
        );
    }
    println!("roles       {}", listed(&status.roles));
    if !status.run_roles.is_empty() {
        let roles = listed(&status.run_roles);
        println!("run         root obtains what these roles may read, by rempart run: {roles} ([run] roles)");
    }
    for line in status.attestation.lines() {
        println!("{}", one_line(&line));
    }
    let guard = &status.guard;
    let attached = guard.programs.iter().filter(|program| program.attached).count();
    let enforcing = if guard.enforcing { "enforcing" } else { "NOT enforcing" };
    println!(
        "protection  {enforcing}, {attached} of {} programs, armed: {}",
        guard.programs.len(),
        guard.armed
    );
    if let Some(why) = &guard.why {
        println!("            {}", one_line(why));
    }
    if guard.armed {
        let files = if guard.files_observed {
            "changes are recorded only"
        } else {
            "changes are refused"
        };
        let tpm = if guard.tpm_exclusive {
            "the agent's alone"
        } else {
            "open to root"
        };
        println!(
            "            {} of Rempart's own files: {files}; TPM: {tpm}",
            guard.sealed
        );
    }
    for loader in &guard.foreign_bpf {
        println!(
            "            foreign BPF: {} may load {}",
            one_line(&loader.path),
            loader.tags.join(", ")
        );
    }
    if !guard.lifted.is_empty() {
        let words: Vec<&str> = guard.lifted.iter().map(|lift| lift.word()).collect();
        println!(
            "            BREAK-GLASS: {} lifted for another {} s; nothing is released",
            words.join(" and "),
            guard.lifted_for_s
        );
    }
    if guard.observing {
        println!("            some attempts are observed, none is refused");
    }
    if guard.lost > 0 {
        println!("            {} events were lost (the denials took place)", guard.lost);
    }
    if !guard.enforcing {
        let meaning = if status.degraded == "allow" {
            "secrets are released all the same"
        } else {
            "no secret is released"
        };
        println!("            guard.degraded = \"{}\": {meaning}", status.degraded);
    }
    match &status.memory {
        Some(memory) if memory.secret => println!("memory      secret, heap and stacks of the agent"),
        Some(memory) => println!(
            "memory      ORDINARY (memory-ordinary): {}; memory.degraded = \"allow\"",
            one_line(&memory.why)
        ),
        None => {}
    }
    println!("served      {}", listed(&status.units));
    for held in &status.leases {
        let ends = held
            .ends_in_s
            .map_or_else(String::new, |s| format!(", the first ends in {s} s"));
        let waits = held
            .waits_for_start
            .as_deref()
            .map_or_else(String::new, |why| format!("; waits for a new start: {}", one_line(why)));
        println!("leases      {}: {}{ends}{waits}", one_line(&held.unit), held.leases);
    }
    if !status.not_stopped.is_empty() {
        println!(
            "NOT STOPPED {}: the lock asks for it until systemd has done it",
            listed(&status.not_stopped)
        );
    }
    if !status.stopped.is_empty() {
        println!("stopped     {}, until the node is unlocked", listed(&status.stopped));
    }
    for kept in &status.offline {
        let sealed = if kept.sealed { "sealed values" } else { "values" };
        let used = if kept.used { "STARTED" } else { "may start" };
        println!(
            "offline     {}: {used} with {sealed} of the vault of {} s ago",
            one_line(&kept.unit),
            kept.age_s
        );
    }
    println!("audit head  {}", status.audit_head);
    Ok(ExitCode::SUCCESS)
}

impl Attestation {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(result) = &self.result {
            let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
            let counter = result.policy_counter.map(|counter| format!(", counter {counter}"));
            lines.push(format!("identity    {}", or_unknown(&result.identity)));
            lines.push(format!(
                "policy      {}{}",
                or_unknown(&result.policy),
                counter.unwrap_or_default()
            ));
        }
        if let Some(tpm) = &self.tpm {
            let certified = match tpm.certified_endorsement_keys.contains(&tpm.endorsement_key) {
                true => "certified by its manufacturer",
                false => "without a certificate",
            };
            let tls = if tpm.tls_key { ", TLS key in the TPM" } else { "" };
            lines.push(format!(
                "tpm         {}, bank {}, AK {}, EK {} {certified}{tls}",
                tpm.manufacturer, tpm.bank, tpm.attestation_key, tpm.endorsement_key
            ));
        }
        lines.push(match (&self.tee.kind, &self.tee.provider, &self.tee.why) {
            (Some(kind), Some(provider), _) => format!("tee         {kind} by {provider}"),
            (_, _, Some(why)) => format!("tee         none: {why}"),
            _ => "tee         not asked yet".to_owned(),
        });
        if let Some(group) = &self.key_exchange {
            lines.push(format!("verifier    TLS 1.3, {group}"));
        }
        for finding in &self.findings {
            lines.push(format!("finding     {finding}"));
        }
        lines
    }
}

fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_proved_is_shown_and_what_is_missing_has_its_reason() {
        let told = serde_json::json!({
            "tpm": {"bank": "sha384", "attestation_key": "template:ecc-p384", "endorsement_key": "rsa-2048",
                "certified_endorsement_keys": ["ecc-p256"], "tls_key": true, "manufacturer": "IBM"},
            "tee": {"kind": null, "provider": null, "why": "configfs-tsm: this kernel has none"},
            "result": {"identity": "certified", "policy": "fleet", "policy_counter": 7, "clock_ahead_s": 0},
            "findings": [{"check": "drift-latched", "who": "demo-1", "what": "latched", "do": "node clear demo-1"}],
            "later": 1,
        });
        let shown = serde_json::from_value::<Attestation>(told)
            .expect("told")
            .lines()
            .join("\n");
        for words in [
            "identity    certified",
            "fleet, counter 7",
            "bank sha384, AK template:ecc-p384, EK rsa-2048 without a certificate, TLS key in the TPM",
            "tee         none: configfs-tsm",
            "node clear demo-1",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert_eq!(Attestation::default().lines(), ["tee         not asked yet"]);
    }
}
