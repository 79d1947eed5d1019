//! `rempart doctor`: what this machine lacks for the protection that Rempart promises, each with what to do.
//!
//! Looks only; must never change anything.

use std::{fs, path::Path, process::ExitCode};

use rempart_api::{bus::State, exit};
use serde::Serialize;

use crate::{agent, failure::Failure, status};

/// What attestation needs.
mod attestation;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl Check {
    fn new(name: &'static str, ok: bool, found: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            name,
            ok,
            found: found.into(),
            remedy: (!ok).then_some(remedy),
        }
    }
}

/// Looks at everything. Exit 0 when all is well, EX_OSERR otherwise.
pub async fn run(bus: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let mut checks = vec![kernel(), lsm(), secret_memory(), tpm(), credentials()];
    let told = told(bus).await;
    checks.extend(attestation::checks(told.as_ref()));
    checks.push(agent_state(bus).await);
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
            if let Some(remedy) = check.remedy {
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

/// A host can hand systemd credentials into the machine that run code as root and change no PCR.
fn credentials() -> Check {
    let line = text("/proc/cmdline");
    let off = line
        .split_whitespace()
        .any(|word| matches!(word, "systemd.import_credentials=no" | "systemd.import_credentials=0"));
    let found = if off {
        "systemd.import_credentials=no is on the command line"
    } else {
        "systemd.import_credentials=no is missing"
    };
    Check::new(
        "host credentials",
        off,
        found,
        "add systemd.import_credentials=no to the measured kernel command line",
    )
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
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(version("6.12.117+deb13-cloud-amd64"), Some((6, 12)));
        assert!(version("6.5.0") >= Some((6, 5)));
        assert!(version("5.19.0") < Some((6, 5)));
        assert!(version("") < Some((6, 5)));
    }
}
