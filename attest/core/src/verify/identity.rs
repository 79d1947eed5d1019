//! Who: the AK certificate is this Verifier's for this node, and the EK that it was given to still holds the name.

use super::Context;
use crate::ak::VerifiedAk;
use crate::certificate::CertificateError;
use crate::evidence::Evidence;
use crate::finding::Finding;

const ENROL_AGAIN: &str = "enrol the node again with this Verifier";

/// Verified now, or kept from before.
pub(super) fn ak_is_certified(evidence: &Evidence, context: &Context<'_>) -> Result<VerifiedAk, Finding> {
    let pem = &evidence.tpm.ak_certificate;
    let kept = context.ak.filter(|ak| ak.is_of(pem, context.authority)).cloned();
    kept.map_or_else(|| VerifiedAk::verify(pem, context.authority, context.now), Ok)
        .and_then(|ak| ak.is_for(&evidence.node, context.now).map(|()| ak))
        .map_err(|e| finding(evidence, &e))
}

pub(super) fn finding(evidence: &Evidence, error: &CertificateError) -> Finding {
    let what = format!("the AK certificate does not count: {error}");
    Finding::new("ak-certificate", &evidence.node, what, ENROL_AGAIN)
}

pub(super) fn ek_is_enrolled(evidence: &Evidence, ak: &VerifiedAk, context: &Context<'_>) -> Result<(), Finding> {
    if ak.ek() == context.enrolled_ek {
        return Ok(());
    }
    let what = "the AK certificate was given to another TPM than the one that holds this name now";
    Err(Finding::new("ek", &evidence.node, what, ENROL_AGAIN)
        .expected(context.enrolled_ek.to_string())
        .found(ak.ek().to_string()))
}
