//! A node that was not let in, and what its operator is told: the state's reason and the findings in the journal.

use std::time::Duration;

use anyhow::Context;

use crate::{
    node::{Node, State},
    report::{Outcome, Report},
};

/// Longest wait for a state that stays.
const SETTLE: Duration = Duration::from_secs(240);

/// One settled boot.
pub struct Refused {
    node: Node,
    state: State,
    /// /proc/cmdline.
    pub command_line: String,
    findings: Vec<String>,
    released: bool,
}

impl Refused {
    /// Waits until the node is let in or not, and gathers what is to be known.
    pub fn settle(node: Node) -> anyhow::Result<Self> {
        let state = node.wait_settled(SETTLE)?;
        let command_line = node.sh("cat /proc/cmdline")?.stdout;
        let journal = node.sh("journalctl -b -u rempartd.service -o cat --no-pager | grep '^finding: '; true")?;
        let mut findings: Vec<String> = journal.stdout.lines().map(str::to_owned).collect();
        findings.push(state.reason.clone());
        let services = node
            .sh("systemctl is-active demo-db.service demo-web.service; true")?
            .stdout;
        let areas = node.sh("ls /run/rempart/units 2>/dev/null; true")?.stdout;
        let released = services.lines().any(|line| line == "active") || !areas.trim().is_empty();
        Ok(Self {
            node,
            state,
            command_line,
            findings,
            released,
        })
    }

    /// The same after another round of attestation. What was released before may still run; released now is what starts now.
    pub fn again(self) -> anyhow::Result<Self> {
        self.node.wait_word("locked", SETTLE / 4)?;
        let (start, _) = self.node.restart_raw("demo-db.service")?;
        let mut settled = Self::settle(self.node)?;
        settled.released = start != Outcome::Denied;
        Ok(settled)
    }

    /// What the TPM holds in a register, SHA-256 bank.
    pub fn register(&self, pcr: u8) -> anyhow::Result<String> {
        let answer = self.node.sh(&format!("tpm2_pcrread sha256:{pcr}"))?.stdout;
        let (_, value) = answer
            .rsplit_once("0x")
            .with_context(|| format!("tpm2_pcrread: {answer}"))?;
        Ok(value.trim().to_lowercase())
    }

    /// The machine.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// `locked`, `unlocked`, …
    pub fn word(&self) -> &str {
        &self.state.word
    }

    /// The reason in one line.
    pub fn reason(&self) -> &str {
        &self.state.reason
    }

    /// The finding on this register, if there is one.
    pub fn pcr(&self, pcr: u8) -> Option<&str> {
        let words = format!("PCR {pcr} ");
        self.findings
            .iter()
            .find(|finding| finding.contains(&words))
            .map(String::as_str)
    }

    /// Refused for exactly a reason that was given: locked, nothing released, a finding on each of `pcrs`.
    pub fn outcome(&self, pcrs: &[u8]) -> Outcome {
        let named = pcrs.iter().all(|pcr| self.pcr(*pcr).is_some());
        match (self.word(), self.released) {
            ("locked", false) if named => Outcome::Denied,
            ("locked", false) => Outcome::Broken,
            _ => Outcome::Works,
        }
    }

    /// A row for one of several things that the host gave in this boot: refused, because the finding on `pcr` names `trace`.
    pub fn way(&self, report: &mut Report, name: &str, pcr: u8, trace: &str) {
        let finding = self.pcr(pcr).unwrap_or_default();
        let seen = match self.outcome(&[pcr]) {
            Outcome::Denied if finding.contains(trace) => Outcome::Denied,
            Outcome::Denied => Outcome::Broken,
            other => other,
        };
        let said = if seen == Outcome::Denied {
            format!("PCR {pcr}: {trace:?}")
        } else {
            format!("{}; finding on PCR {pcr}: {finding}", self.reason())
        };
        report.row(name, Outcome::Denied, seen, said);
    }

    /// The whole boot as one row.
    pub fn row(&self, report: &mut Report, name: &str, pcrs: &[u8]) {
        report.row(name, Outcome::Denied, self.outcome(pcrs), self.reason());
    }
}
