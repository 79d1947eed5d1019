//! Freshness and binding: the Evidence was made for this challenge, on this connection, in this boot, with this AK.

use super::{Context, RETRY};
use crate::binding::Binding;
use crate::bytes::Fixed;
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::tpm::Quote;

pub(super) fn challenge_is_fresh(evidence: &Evidence, context: &Context<'_>) -> Result<(), Finding> {
    evidence
        .challenge
        .verify(context.challenge_key, context.now, context.verifier)
        .map_err(|e| Finding::new("challenge", &evidence.node, e.to_string(), RETRY))
}

/// The digest that this exchange must have with the AK `ak`.
pub(super) fn binding(evidence: &Evidence, ak: &Fixed<32>, context: &Context<'_>) -> Fixed<64> {
    Binding {
        challenge: evidence.challenge.as_bytes(),
        ephemeral: &evidence.ephemeral,
        verifier: context.verifier,
        exporter: context.exporter,
        boot_id: &evidence.boot_id,
        audit_head: &evidence.audit_head,
        ak,
        claims: &evidence.guard.digest(),
    }
    .digest()
}

/// The part of the digest that a TPM takes.
pub(super) fn qualifying_data(binding: &Fixed<64>) -> &[u8] {
    &binding.0[..32]
}

pub(super) fn quote_is_bound(evidence: &Evidence, quote: &Quote, binding: &Fixed<64>) -> Result<(), Finding> {
    let expected = qualifying_data(binding);
    if quote.extra_data == expected {
        return Ok(());
    }
    let what = "the quote is not bound to this challenge, key, boot, claims and TLS connection: it was relayed, replayed or made for another exchange";
    let remedy = "if there is a TLS proxy between node and Verifier, remove it; else treat as an attack";
    Err(Finding::new("binding", &evidence.node, what, remedy)
        .expected(hex::encode(expected))
        .found(hex::encode(&quote.extra_data)))
}
