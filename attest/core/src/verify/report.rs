//! systemd's own report (systemd 262), where the node sent one: by the AK of this Evidence, over its registers, in its boot, for this
//! round. None is no failure here; whether one must be there is a policy's to say.

use crate::ak::VerifiedAk;
use crate::bytes::Fixed;
use crate::eventlog::{replay, uefi, userspace};
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::pcr::{PcrValue, Pcrs};
use crate::systemd_report::{self, Against, IDENTITY_PCR, ReportError, SystemdReport};
use crate::tpm::Quote;

/// Every check of the report that can be made with what is known of the rest.
pub(super) fn is_verified(
    evidence: &Evidence,
    ak: Option<&VerifiedAk>,
    binding: Option<&Fixed<64>>,
    quote: Option<&Quote>,
    pcrs: Option<&Pcrs>,
) -> Result<Option<SystemdReport>, Vec<Finding>> {
    let (false, Some(ak)) = (evidence.systemd_report.0.is_empty(), ak) else {
        return Ok(None);
    };
    let against = Against {
        ak: ak.key(),
        nonce: binding.map(super::exchange::qualifying_data),
        clock: quote.map(|quote| &quote.clock),
        pcrs,
        identity: identity(evidence),
        boot_id: &evidence.boot_id,
    };
    match systemd_report::verify(&evidence.systemd_report.0, &against) {
        Ok(report) => Ok(Some(report)),
        Err(errors) => Err(errors.iter().map(|error| finding(evidence, error)).collect()),
    }
}

/// PCR 15 as the logs have it. A log that cannot be read has a finding of its own.
fn identity(evidence: &Evidence) -> PcrValue {
    let bank = evidence.tpm.bank;
    let mut events = uefi::read(&evidence.tpm.uefi_log.0, bank).unwrap_or_default().events;
    events.extend(userspace::parse(&evidence.tpm.userspace_log.0, bank).unwrap_or_default());
    let of_it = events.iter().filter(|event| event.pcr == IDENTITY_PCR);
    replay::replay(bank, of_it).value(IDENTITY_PCR).unwrap_or(bank.zero())
}

fn finding(evidence: &Evidence, error: &ReportError) -> Finding {
    let remedy = match error {
        ReportError::Key { .. } => {
            "give systemd this node's attestation key: rempart attest systemd-key, docs/attestation.md"
        }
        ReportError::Bank { .. } => "set tpm.bank to the bank that systemd quotes, or attest.systemd_report to \"off\"",
        ReportError::Age { .. } | ReportError::Shared | ReportError::Registers => super::RETRY,
        _ => {
            "set attest.systemd_report to \"off\" on the node and find out who changed the report, or bring node and Verifier to one release"
        }
    };
    Finding::new(error.check(), &evidence.node, error.to_string(), remedy)
}
