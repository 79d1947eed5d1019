//! Where vaults find the key that results are signed with: OpenID discovery and the JWK set (RFC 7517).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rempart_attest::api;
use serde_json::{Value, json};

use super::Verifier;

/// OpenID Connect Discovery 1.0, as far as a JWT relying party reads it.
pub async fn openid(State(verifier): State<Arc<Verifier>>) -> Json<Value> {
    let id = &verifier.config.id;
    Json(json!({
        "issuer": id,
        "jwks_uri": format!("{id}{}", api::JWKS),
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
    }))
}

/// The one key there is.
pub async fn jwks(State(verifier): State<Arc<Verifier>>) -> Json<Value> {
    let signing = &verifier.keys.signing;
    let (x, y) = signing.point()[1..].split_at(32);
    Json(json!({ "keys": [{
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": signing.kid(),
        "x": BASE64_URL_SAFE_NO_PAD.encode(x),
        "y": BASE64_URL_SAFE_NO_PAD.encode(y),
    }]}))
}
