//! The quote: over the pinned registers of the named bank, signed by the certified AK, and over the values that came with it.

use super::RETRY;
use crate::ak::VerifiedAk;
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::pcr::{Pcrs, QUOTED};
use crate::tpm::Quote;
use crate::tpm::quote::QuoteError;
use crate::tpm::signature::{Signature, SignatureError};

const RELEASE: &str = "the node's agent must quote the registers 0 to 14 of the bank that it names; bring node and Verifier to the same release";

/// Parsed, with the pinned selection.
pub(super) fn is_pinned(evidence: &Evidence) -> Result<Quote, Finding> {
    Quote::parse(&evidence.tpm.quote.0, evidence.tpm.bank).map_err(|e| {
        let check = match e {
            QuoteError::Wire(_) => "quote",
            QuoteError::Selection { .. } => "quote-selection",
            QuoteError::Bank { .. } => "quote-bank",
        };
        Finding::new(check, &evidence.node, e.to_string(), RELEASE)
    })
}

pub(super) fn is_signed(evidence: &Evidence, ak: &VerifiedAk) -> Result<(), Finding> {
    let verified = Signature::parse(&evidence.tpm.signature.0)
        .map_err(SignatureError::Wire)
        .and_then(|signature| signature.verify(ak.key(), &evidence.tpm.quote.0));
    verified.map_err(|e| {
        let remedy = "treat the node as hostile unless its TPM was just replaced; then enrol it again";
        Finding::new("signature", &evidence.node, format!("the quote: {e}"), remedy)
    })
}

/// The claimed values, which must be the quoted ones.
pub(super) fn values(evidence: &Evidence, quote: &Quote) -> Result<Pcrs, Finding> {
    let pcrs = evidence.claimed_pcrs().ok_or_else(|| {
        let what = "a PCR stands twice in the Evidence, or is of another bank than it names";
        Finding::new("pcr-list", &evidence.node, what, RELEASE)
    })?;
    if !pcrs.values.keys().copied().eq(QUOTED) {
        let what = "the Evidence does not carry exactly the PCRs 0 to 14";
        return Err(Finding::new("pcr-list", &evidence.node, what, RELEASE));
    }
    // The signing scheme's hash, whatever the bank (Part 3, 18.4); its length tells which.
    let digest = pcrs.digest(quote.pcr_digest.bank());
    if digest == quote.pcr_digest {
        return Ok(pcrs);
    }
    let what = "the PCR values are not the ones that were quoted";
    Err(Finding::new("pcr-digest", &evidence.node, what, RETRY)
        .expected(quote.pcr_digest.to_string())
        .found(digest.to_string()))
}
