//! `/v1/enrol` and `/v1/enrol/complete`. The name is given to a TPM only in the second step, when the TPM is proven.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use rempart_attest::api::{EnrolCompleteRequest, EnrolCompleteResponse, EnrolRequest, EnrolResponse};

use super::Verifier;
use super::refusal::{Refused, parse};
use crate::{clock, enrolment};

/// First message.
pub async fn begin(State(verifier): State<Arc<Verifier>>, body: Bytes) -> Result<Json<EnrolResponse>, Refused> {
    let request: EnrolRequest = parse(&body)?;
    let known = verifier.registry.node(&request.node)?;
    let response = enrolment::begin(
        &request,
        known.as_ref(),
        &verifier.config,
        &verifier.keys.enrolment,
        clock::now(),
    )?;
    Ok(Json(response))
}

/// Second message.
pub async fn complete(
    State(verifier): State<Arc<Verifier>>,
    body: Bytes,
) -> Result<Json<EnrolCompleteResponse>, Refused> {
    let request: EnrolCompleteRequest = parse(&body)?;
    let activated = enrolment::complete(&request, &verifier.keys.enrolment, clock::now())?;
    verifier.registry.bind_ek(&activated.node, &activated.ek)?;
    let certificate = verifier
        .keys
        .authority
        .certify(&activated.node, &activated.ek.fingerprint, &activated.ak);
    let ak_certificate = certificate.map_err(|e| Refused::internal(&e))?;
    tracing::info!(
        "{} enrolled: EK {} ({})",
        activated.node,
        activated.ek.fingerprint,
        activated.ek.identity
    );
    Ok(Json(EnrolCompleteResponse { ak_certificate }))
}
