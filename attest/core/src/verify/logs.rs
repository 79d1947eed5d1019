//! The logs against the quote: firmware's first, then systemd's, each register must come out as quoted. PCR 10 belongs to IMA, which
//! has a list and a rule of its own. Which registers count is the appraisal's business: it takes the findings of those it judges.

use crate::eventlog::{Event, replay, uefi, userspace};
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::pcr::{Pcrs, QUOTED};

const REMEDY: &str =
    "nothing to do if the next attempt succeeds; else find out what extends this register without a log";

/// The measurements, and what is wrong with them.
pub(super) fn replay_to(evidence: &Evidence, pcrs: &Pcrs) -> (Vec<Event>, Vec<Finding>) {
    let fail = |check: &str, what: String| Finding::new(check, &evidence.node, what, REMEDY);
    let mut findings = Vec::new();
    let firmware = uefi::read(&evidence.tpm.uefi_log.0, evidence.tpm.bank).unwrap_or_else(|e| {
        findings.push(fail("uefi-log", e.to_string()));
        uefi::Log::default()
    });
    let mut events = firmware.events;
    match userspace::parse(&evidence.tpm.userspace_log.0, evidence.tpm.bank) {
        Ok(more) => events.extend(more),
        Err(e) => findings.push(fail("userspace-log", e.to_string())),
    }
    if !findings.is_empty() {
        return (events, findings);
    }
    let replayed = replay::replay_from(evidence.tpm.bank, firmware.locality, &events);
    for pcr in QUOTED.into_iter().filter(|pcr| *pcr != crate::eventlog::ima::PCR) {
        let zero = pcrs.bank.zero();
        let (logged, quoted) = (replayed.value(pcr).unwrap_or(zero), pcrs.value(pcr).unwrap_or(zero));
        if logged != quoted {
            let what =
                format!("the event logs do not add up to the quoted PCR {pcr}: an event is missing, added or changed");
            let finding = fail("event-log", what).pcr(pcr);
            findings.push(finding.expected(quoted.to_string()).found(logged.to_string()));
        }
    }
    (events, findings)
}
