//! `/v1/accessor`: a node names a token that it got at the vault, so that it can be revoked. Only a token that the vault itself says
//! is this node's is taken: else one node could have another's revoked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rempart_attest::api::{self, AccessorRequest, AccessorResponse};
use rempart_attest::ear::Ear;
use rempart_attest::limits;

use super::Verifier;
use super::body::Received;
use super::refusal::{Refused, parse};
use crate::revocation::TakeError;
use crate::{clock, name};

/// Looks the token up and keeps its accessor.
pub async fn note(
    State(verifier): State<Arc<Verifier>>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<AccessorResponse>, Refused> {
    let request: AccessorRequest = parse(&body.bytes)?;
    name::role(&request.role).map_err(|e| Refused::bad_request(e.to_string()))?;
    name::accessor(&request.accessor).map_err(|e| Refused::bad_request(e.to_string()))?;
    let ear = Ear::verify(
        &request.ear,
        verifier.keys.signing.point(),
        &verifier.config.id,
        api::AUDIENCE_VERIFIER,
        clock::now(),
    )
    .map_err(|e| Refused::forbidden(format!("the accessor is not taken: {e}")))?;
    let Some(revoker) = &verifier.revoker else {
        // Nothing to revoke with; the node need not know.
        return Ok(Json(AccessorResponse {}));
    };
    revoker
        .take(&ear.sub, &request.accessor)
        .await
        .map_err(|error| match error {
            TakeError::Foreign => {
                tracing::warn!("{} named a vault token that is not its own", ear.sub);
                Refused::forbidden(format!("the accessor is not taken: {error}"))
            }
            TakeError::Vault(_) | TakeError::Registry(_) => Refused::unavailable(&error),
        })?;
    Ok(Json(AccessorResponse {}))
}
