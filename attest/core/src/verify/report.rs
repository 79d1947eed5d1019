//! systemd's own report (systemd 262). It is no Evidence here yet, and what is not judged must not pass as if it were.

use crate::evidence::Evidence;
use crate::finding::Finding;

pub(super) fn is_absent(evidence: &Evidence) -> Result<(), Finding> {
    if evidence.systemd_report.0.is_empty() {
        return Ok(());
    }
    let what = "the Evidence carries a systemd report, which this Verifier does not judge";
    let remedy = "send none, or bring node and Verifier to a release that judges it";
    Err(Finding::new("systemd-report", &evidence.node, what, remedy))
}
