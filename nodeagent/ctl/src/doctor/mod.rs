//! `rempart doctor`: what this machine lacks for the protection that Rempart promises, each with what to do.
//!
//! Looks only; must never change anything.

use std::{borrow::Cow, fs, path::Path, process::ExitCode};

use rempart_api::{bus::State, exit};
use rempart_attest::policy::predict::risks;
use serde::Serialize;

use crate::{agent, failure::Failure, status, talk::one_line};

/// What attestation needs.
mod attestation;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    remedy: Option<Cow<'static, str>>,
}

impl Check {
    fn new(name: &'static str, ok: bool, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name,
            ok,
            found: found.into(),
            remedy: (!ok).then(|| remedy.into()),
        }
    }
}

/// Looks at everything. Exit 0 when all is well, EX_OSERR otherwise.
pub async fn run(bus: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let mut checks = vec![kernel(), lsm(), secret_memory(), tpm()];
    checks.extend(host_configuration(&text("/proc/cmdline")));
    let told = told(bus).await;
    checks.extend(attestation::checks(told.as_ref()));
    checks.push(agent_state(bus).await);
    checks.extend(agent_memory(bus).await);
    if json {
        println!("{}", serde_json::to_string(&checks).map_err(Failure::AgentMalformed)?);
    } else {
        for check in &checks {
            println!(
                "{}  {:<20} {}",
                if check.ok { "ok  " } else { "FAIL" },
                check.name,
                check.found
            );
            if let Some(remedy) = &check.remedy {
                println!("      {:<20} → {remedy}", "");
            }
        }
    }
    let well = checks.iter().all(|check| check.ok);
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::OS)
    })
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn kernel() -> Check {
    let release = text("/proc/sys/kernel/osrelease");
    let remedy = "install Linux 6.5 or later: before it the kernel cannot prove which process asks for a secret";
    Check::new("kernel", version(&release) >= Some((6, 5)), release, remedy)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn lsm() -> Check {
    let list = text("/sys/kernel/security/lsm");
    let remedy = "add bpf to lsm= on the kernel command line of the image: without it nothing is enforced";
    let found = if list.is_empty() {
        "no list of security modules".to_owned()
    } else {
        list.clone()
    };
    Check::new(
        "bpf security module",
        list.split(',').any(|name| name == "bpf"),
        found,
        remedy,
    )
}

fn secret_memory() -> Check {
    let remedy = "use a kernel with CONFIG_SECRETMEM, and secretmem.enable=1 on the command line before Linux 6.5";
    match rempart_secretmem::Area::create(4096) {
        Ok(_) => Check::new("memfd_secret", true, "works", remedy),
        Err(error) => Check::new("memfd_secret", false, error.to_string(), remedy),
    }
}

fn tpm() -> Check {
    let version = text("/sys/class/tpm/tpm0/tpm_version_major");
    let remedy = "give the machine a TPM 2.0 (virtual machines: a vTPM) and load its driver";
    let there = Path::new("/dev/tpmrm0").exists();
    let found = match (there, version.as_str()) {
        (true, "2") => "/dev/tpmrm0, TPM 2.0".to_owned(),
        (true, other) => format!("/dev/tpmrm0, version {other:?}"),
        (false, _) => "no /dev/tpmrm0".to_owned(),
    };
    Check::new("tpm", there && version == "2", found, remedy)
}

/// The ways by which a host configures the guest and no register shows it. A policy is predicted for images that close them all.
fn host_configuration(cmdline: &str) -> Vec<Check> {
    let check = |risk: &risks::Risk| {
        let words = risk.arguments.join(" ");
        let (closed, found) = match risk.is_closed(cmdline) {
            true => (true, format!("{words} is on the command line")),
            false => (false, format!("open: {}", risk.reason)),
        };
        Check::new(
            risk.name,
            closed,
            found,
            format!("add {words} to the measured kernel command line"),
        )
    };
    risks::RISKS.iter().map(check).collect()
}

/// Whether the agent itself is in secret memory; nothing when it is not there, which another line says.
async fn agent_memory(bus: Option<&str>) -> Option<Check> {
    let agent = agent::connect(bus).await.ok()?;
    let memory = status::memory(&agent).await.ok()??;
    let found = if memory.secret {
        "secret: heap and stacks".to_owned()
    } else {
        format!("memory-ordinary: {}", one_line(&memory.why))
    };
    let remedy = "raise LimitMEMLOCK= of rempartd.service; then set memory.degraded = \"refuse\"";
    Some(Check::new("agent's memory", memory.secret, found, remedy))
}

/// What the agent has learnt of this machine, when it is there.
async fn told(bus: Option<&str>) -> Option<status::Attestation> {
    let agent = agent::connect(bus).await.ok()?;
    status::attestation(&agent).await.ok()
}

async fn agent_state(bus: Option<&str>) -> Check {
    let seen = async {
        let agent = agent::connect(bus).await?;
        Ok::<_, Failure>((agent.state().await?, agent.reason().await?))
    };
    match seen.await {
        Ok((state, reason)) => {
            let found = if reason.is_empty() {
                state.clone()
            } else {
                format!("{state}: {reason}")
            };
            Check::new(
                "agent",
                state == State::Unlocked.word(),
                found,
                "see: rempart status; journalctl -u rempartd",
            )
        }
        Err(failure) => Check::new(
            "agent",
            false,
            failure.to_string(),
            "start it: systemctl start rempartd",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_the_command_line_leaves_open_is_told_with_the_words_that_close_it() {
        let open = |cmdline: &str| {
            host_configuration(cmdline)
                .into_iter()
                .filter(|check| !check.ok)
                .collect::<Vec<_>>()
        };
        let all: Vec<&str> = risks::RISKS
            .iter()
            .flat_map(|risk| risk.arguments.iter().copied())
            .collect();
        assert!(open(&all.join(" ")).is_empty());
        let without = open(&all[1..].join(" "));
        assert_eq!(without.len(), 1);
        assert!(without[0].remedy.as_ref().is_some_and(|remedy| remedy.contains(all[0])));
    }

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(version("6.12.117+deb13-cloud-amd64"), Some((6, 12)));
        assert!(version("6.5.0") >= Some((6, 5)));
        assert!(version("5.19.0") < Some((6, 5)));
        assert!(version("") < Some((6, 5)));
    }
}
