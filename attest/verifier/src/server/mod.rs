//! The HTTPS server: TLS 1.3 only, a manual accept loop so that each request knows the exporter of its connection, one file a
//! resource. Adding a resource: a file with a handler, a line in `routes`, a limit for its body.

mod attest;
mod connection;
mod discovery;
mod enrol;
mod refusal;
mod secrets;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use rempart_attest::{api, limits};

use crate::active::Cache;
use crate::config::Config;
use crate::error::Error;
use crate::keys::{self, Keys};
use crate::registry::{self, Registry};
use crate::store::StoreKey;

/// All that handlers share.
pub struct Verifier {
    config: Config,
    keys: Keys,
    registry: Box<dyn Registry>,
    policy: Cache,
    store: StoreKey,
}

impl Verifier {
    /// Loads keys and registry; no port is taken yet.
    pub fn load(config: Config) -> Result<Self, Error> {
        Ok(Self {
            keys: Keys::load(&config)?,
            registry: registry::open(&config.state_dir)?,
            policy: Cache::default(),
            store: StoreKey::new(&*keys::secret32(&config.store_key_file)?)?,
            config,
        })
    }
}

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Error> {
    let tls = connection::tls(&config)?;
    let verifier = Arc::new(Verifier::load(config)?);
    if let Err(why) = verifier.policy.current(&*verifier.registry) {
        tracing::warn!("every node will be refused for now: {why}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(connection::serve(verifier.config.listen, tls, routes(verifier)))
}

fn routes(verifier: Arc<Verifier>) -> Router {
    let small = Router::new()
        .route(api::CHALLENGE, post(attest::challenge))
        .route(api::ENROL, post(enrol::begin))
        .route(api::ENROL_COMPLETE, post(enrol::complete))
        .route(api::SECRETS, post(secrets::release))
        .route(api::OPENID, get(discovery::openid))
        .route(api::JWKS, get(discovery::jwks))
        .layer(DefaultBodyLimit::max(limits::JSON_BODY));
    let evidence = Router::new()
        .route(api::ATTEST, post(attest::attest))
        .layer(DefaultBodyLimit::max(limits::EVIDENCE));
    small.merge(evidence).fallback(refusal::not_found).with_state(verifier)
}
