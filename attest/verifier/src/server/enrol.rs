//! `/v1/enrol` and `/v1/enrol/complete`. The name is given to a TPM only in the second step, when the TPM is proven. Both steps may go
//! to different replicas: what the second needs is in the token.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use rempart_attest::api::{EnrolCompleteRequest, EnrolCompleteResponse, EnrolRequest, EnrolResponse};
use rempart_attest::limits;

use super::Verifier;
use super::admission::Source;
use super::body::Received;
use super::refusal::{Refused, parse};
use crate::registry::PENDING;
use crate::{clock, enrolment, name};

/// First message.
pub async fn begin(
    State(verifier): State<Arc<Verifier>>,
    Extension(source): Extension<Source>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<EnrolResponse>, Refused> {
    let request: EnrolRequest = parse(&body.bytes)?;
    name::node(&request.node).map_err(|e| Refused::bad_request(e.to_string()))?;
    verifier.admission.claim(source, &request.node)?;
    let known = verifier.recent.node(&request.node).await?;
    let response = enrolment::begin(
        &request,
        known.as_deref(),
        &verifier.config,
        &verifier.keys.enrolment,
        clock::now(),
    )?;
    Ok(Json(response))
}

/// Second message.
pub async fn complete(
    State(verifier): State<Arc<Verifier>>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<EnrolCompleteResponse>, Refused> {
    let request: EnrolCompleteRequest = parse(&body.bytes)?;
    let activated = enrolment::complete(&request, &verifier.keys.enrolment, clock::now())?;
    let (node, ek) = (&activated.node, &activated.ek);
    verifier.registry.bind_ek(node, ek, &verifier.act(node)).await?;
    verifier.recent.forget(node);
    let certificate = verifier.keys.authority.certify_ak(node, &ek.fingerprint, &activated.ak);
    let ak_certificate = certificate.map_err(|e| Refused::internal(&e))?;
    tracing::info!("{node} enrolled: EK {} ({})", ek.fingerprint, ek.identity);
    if ek.identity == PENDING {
        tracing::warn!(
            "{node} waits for approval: compare its EK, then rempart-verifier node approve {node} --ek {}",
            ek.fingerprint
        );
    }
    Ok(Json(EnrolCompleteResponse { ak_certificate }))
}
