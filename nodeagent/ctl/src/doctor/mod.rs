//! `rempart doctor`: what this machine lacks for the protection that Rempart promises, each with what to do.
//!
//! [`observe`] looks, the other modules judge what was seen, so that each judgement is a unit test. One more check is a line in
//! the catalogue, a row in docs/setup.md, and a function over [`facts::Facts`]. Looks only; must never change anything.

use std::process::ExitCode;

use crate::failure::Failure;

/// UEFI, TPM, event log, TEE, clock.
pub mod boot;
/// One thing that was looked at, and all of it together.
pub mod check;
/// What was observed.
pub mod facts;
/// Users, folders, configuration, certificates.
pub mod installed;
/// The kernel.
pub mod kernel;
/// Agent, guard, gate, record, units.
mod live;
/// The real machine.
pub mod observe;
/// What a TPM says of its state.
mod tpm;

use check::{Check, Report};
use facts::Facts;

/// Names of all checks, in the order in which they are shown. docs/setup.md says of each what it takes to be well.
#[cfg(test)]
const CATALOGUE: &[&str] = &[
    "kernel",
    "btf",
    "bpf security module",
    "memfd_secret",
    "lockdown",
    "swap",
    "ima",
    "host-credentials",
    "efi-options",
    "gpt-auto",
    "hibernation",
    "uefi",
    "secure boot",
    "event log",
    "tpm",
    "tpm state",
    "pcr bank",
    "ek certificate",
    "tee",
    "clock",
    "systemd",
    "users",
    "folders",
    "bus policy",
    "bus name",
    "configuration",
    "services",
    "locked memory",
    "certificates",
    "agent",
    "agent's memory",
    "guard",
    "pinned programs",
    "events",
    "gate",
    "audit log",
    "leases",
    "sealed copies",
    "unit",
];

/// Looks at everything.
pub async fn run(bus: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let report = Report::of(checks(&observe::facts(bus).await));
    match json {
        true => println!("{}", serde_json::to_string(&report).map_err(Failure::AgentMalformed)?),
        false => print!("{}", report.text()),
    }
    Ok(ExitCode::from(report.exit()))
}

fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = kernel::checks(&facts.kernel);
    checks.extend(boot::checks(facts));
    checks.extend(installed::checks(facts));
    checks.extend(live::checks(facts));
    checks
}

/// What the machine itself brings, before anything is installed or configured: for `rempart setup`.
pub fn prerequisites(kernel: &facts::Kernel, boot: &facts::Boot, tpm: &facts::Tpm) -> Vec<Check> {
    let mut checks = kernel::checks(kernel);
    checks.extend(boot::machine(boot, tpm));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::validate::Survey;

    fn facts() -> Facts {
        Facts {
            now: 1_800_000_000,
            kernel: kernel::tests::good(),
            boot: boot::tests::good_boot(),
            tpm: boot::tests::good_tpm(),
            system: installed::tests::good_system(),
            installed: installed::tests::good(),
            live: facts::Live {
                agent: Ok(Box::new(live::tests::status())),
                guard: facts::Seen::Absent,
                pins: facts::Seen::Is(vec!["link_task_kill".into(), "link_ptrace".into()]),
                audit: facts::Seen::Is(facts::Audit {
                    entries: 1,
                    broken: None,
                    has_head: Some(true),
                }),
                units: Survey::default(),
            },
        }
    }

    #[test]
    fn every_check_is_in_the_catalogue_and_the_catalogue_in_the_docs_both_ways() {
        let mut facts = facts();
        let certificate = facts::Certificate {
            subject: "CN=ca".into(),
            not_before: 0,
            not_after: i64::MAX,
        };
        facts.installed.certificates = vec![("/ca.pem".into(), facts::Seen::Is(Ok(vec![certificate])))];
        let mut made: Vec<&str> = checks(&facts).iter().map(|check| check.name).collect();
        made.dedup();
        assert_eq!(made, CATALOGUE);
        let docs = include_str!("../../../../docs/setup.md");
        let table = docs.split_once("## What doctor looks at").expect("the section").1;
        let rows: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
            .collect();
        assert_eq!(rows, CATALOGUE);
    }

    #[test]
    fn a_machine_with_nothing_amiss_ends_with_0() {
        let mut facts = facts();
        facts.live.agent = Ok(Box::new(live::tests::judged()));
        let report = Report::of(checks(&facts));
        assert_eq!(report.exit(), 0, "{}", report.text());
    }

    #[test]
    fn without_an_agent_all_else_is_looked_at() {
        let mut facts = facts();
        facts.live.agent = Err("the agent does not answer".into());
        let checks = checks(&facts);
        let told: Vec<&str> = checks.iter().map(|check| check.name).collect();
        let of_the_agent = ["agent's memory", "leases", "sealed copies", "certificates"];
        let expected: Vec<&str> = CATALOGUE
            .iter()
            .copied()
            .filter(|name| !of_the_agent.contains(name))
            .collect();
        assert_eq!(told, expected);
    }
}
