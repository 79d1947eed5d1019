//! A key for TLS that the node says lives in its TPM: only with the AK's certification for this exchange.

use crate::ak::VerifiedAk;
use crate::bytes::Fixed;
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::tpm::certify::{self, TlsKey};

pub(super) fn is_certified(
    evidence: &Evidence,
    ak: &VerifiedAk,
    binding: &Fixed<64>,
) -> Result<Option<TlsKey>, Vec<Finding>> {
    let Some(sent) = &evidence.tpm.tls_key else {
        return Ok(None);
    };
    let key = certify::verify(
        &sent.public.0,
        &sent.attest.0,
        &sent.signature.0,
        ak.key(),
        super::exchange::qualifying_data(binding),
    );
    let remedy = "remove [vault] auth = \"cert\" on the node, or bring it to the Verifier's release; a certification of another key is an attack";
    key.map(Some).map_err(|errors| {
        errors
            .into_iter()
            .map(|e| Finding::new(e.check(), &evidence.node, e.to_string(), remedy))
            .collect()
    })
}
