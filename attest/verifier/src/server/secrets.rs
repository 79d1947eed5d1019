//! `/v1/secrets`: the embedded store. A value leaves only sealed to the key that a fresh result confirms, only for a role that both
//! the result and the registry give the node, and only when it is stored for that role.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rempart_attest::api::{self, SecretsRequest, SecretsResponse};
use rempart_attest::ear::Ear;
use rempart_attest::hpke::{self, Purpose};
use rempart_attest::limits;
use rempart_attest::secrets::SecretBundle;

use super::Verifier;
use super::body::Received;
use super::refusal::{Refused, parse};
use crate::clock;

/// A result in, sealed secrets out; all of them or none.
pub async fn release(
    State(verifier): State<Arc<Verifier>>,
    body: Received<{ limits::JSON_BODY }>,
) -> Result<Json<SecretsResponse>, Refused> {
    let request: SecretsRequest = parse(&body.bytes)?;
    let ear = Ear::verify(
        &request.ear,
        verifier.keys.signing.point(),
        &verifier.config.id,
        api::AUDIENCE_VERIFIER,
        clock::now(),
    )
    .map_err(|e| Refused::forbidden(format!("no secrets: {e}")))?;
    let bundle = collect(&verifier, &ear, &request).await?;
    let key = ear.confirmed_key().map_err(|e| Refused::forbidden(e.to_string()))?;
    let sealed =
        hpke::seal(Purpose::Secrets, &key, ear.jti.as_bytes(), &bundle.to_cbor()).map_err(|e| Refused::internal(&e))?;
    tracing::info!(
        "{} got {} secrets for role {}: {}",
        ear.sub,
        bundle.0.len(),
        request.role,
        request.names.join(", ")
    );
    Ok(Json(sealed.into()))
}

async fn collect(verifier: &Verifier, ear: &Ear, request: &SecretsRequest) -> Result<SecretBundle, Refused> {
    let role = crate::name::role(&request.role).map_err(|e| Refused::bad_request(e.to_string()))?;
    if request.names.len() > limits::SECRET_NAMES {
        return Err(Refused::bad_request(format!(
            "more than {} secrets were asked for",
            limits::SECRET_NAMES
        )));
    }
    // The registry itself is asked too: a role that was taken away, or a latch, counts at once, not only with the next result.
    let registered = verifier.registry.node(&ear.sub).await?;
    if registered.as_ref().is_some_and(|node| node.latch.is_some()) {
        let node = &ear.sub;
        return Err(Refused::forbidden(format!(
            "no secrets: node {node} drifted: rempart-verifier node clear {node}"
        )));
    }
    let has_role = ear.roles.iter().any(|r| r == role) && registered.is_some_and(|n| n.roles.iter().any(|r| r == role));
    if !has_role {
        let node = &ear.sub;
        return Err(Refused::forbidden(format!(
            "no secrets: node {node} has not the role {role}: rempart-verifier node add {node} --role {role}"
        )));
    }
    let (mut bundle, mut size) = (SecretBundle::default(), 0);
    for name in &request.names {
        crate::name::secret(name).map_err(|e| Refused::bad_request(e.to_string()))?;
        let missing = || {
            Refused::forbidden(format!(
                "no secrets: there is no \"{name}\" for role {role}: rempart-verifier secret set {name} --role {role}"
            ))
        };
        let sealed = verifier.registry.secret(name, role).await?.ok_or_else(missing)?;
        let value = verifier
            .store
            .open(name, role, &sealed)
            .map_err(|e| Refused::internal(&e))?;
        size += value.len();
        if size > limits::SECRET_ANSWER {
            let most = limits::SECRET_ANSWER >> 20;
            return Err(Refused::bad_request(format!(
                "the secrets asked for have more than {most} MiB together; have the unit ask for less"
            )));
        }
        bundle.0.insert(name.clone(), value);
    }
    Ok(bundle)
}
