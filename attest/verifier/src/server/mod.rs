//! The HTTPS server: TLS 1.3 only, a manual accept loop so that each request knows the exporter of its connection, one file a
//! resource. Adding a resource: a file with a handler that takes its body as `Received<MAX>`, and a line in `routes`.

mod accessor;
mod admission;
mod attest;
mod body;
mod connection;
mod discovery;
mod enrol;
mod refusal;
mod rounds;
mod secrets;
mod seen;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use rempart_attest::api;

use crate::config::Config;
use crate::endorsements::Endorser;
use crate::error::Error;
use crate::keys::{self, Keys};
use crate::registry::cache::{Recent, Trust};
use crate::registry::{Act, Registry};
use crate::revocation::Revoker;
use crate::store::StoreKey;
use crate::{clock, revocation};

/// All that handlers share.
pub struct Verifier {
    config: Config,
    keys: Keys,
    registry: Arc<Registry>,
    recent: Arc<Recent>,
    admission: Arc<admission::Admission>,
    bodies: body::Budget,
    seen: Arc<seen::Seen>,
    rounds: rounds::Rounds,
    watchers: watch::Watchers,
    revoker: Option<Arc<Revoker>>,
    store: StoreKey,
    endorser: Arc<Endorser>,
}

impl Verifier {
    /// Loads keys and opens the registry; no port is taken yet.
    async fn load(config: Config) -> Result<Self, Error> {
        let keys = Keys::load(&config)?;
        let trust = Trust {
            signers: config.signers()?,
            required: config.signatures_required,
        };
        let registry = Arc::new(Registry::open(&config.registry).await?);
        let revoker = match &config.vault {
            Some(vault) => Some(Arc::new(Revoker::new(
                vault,
                &config.id,
                &keys.signing,
                registry.clone(),
            )?)),
            None => None,
        };
        Ok(Self {
            endorser: Endorser::new(&config.endorsements)?,
            recent: Arc::new(Recent::new(registry.clone(), trust)),
            admission: Arc::new(admission::Admission::new(&config.limits)),
            bodies: body::Budget::default(),
            seen: Arc::default(),
            rounds: rounds::Rounds::default(),
            watchers: watch::Watchers::new(&config.limits),
            store: StoreKey::new(&*keys::secret32(&config.store_key_file)?)?,
            revoker,
            registry,
            keys,
            config,
        })
    }

    /// What the Verifier itself does, for the history.
    fn act<'a>(&self, who: &'a str) -> Act<'a> {
        Act {
            who,
            at: clock::now(),
            vault: self.config.vault.is_some(),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Error> {
    let tls = connection::tls(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The registry's file is used by one at a time, and names are looked up by few. Each has a stack of 2 MiB, which counts
        // against LimitMEMLOCK=.
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async {
        let verifier = Arc::new(Verifier::load(config).await?);
        tokio::spawn(verifier.recent.clone().follow());
        tokio::spawn(verifier.admission.clone().sweep());
        tokio::spawn(verifier.endorser.clone().renew_lists());
        tokio::spawn(verifier.seen.clone().write_down(verifier.registry.clone()));
        if let Some(revoker) = verifier.revoker.clone() {
            tokio::spawn(revocation::run(revoker));
        }
        connection::serve(tls, verifier.clone(), routes(verifier.clone())).await?;
        verifier.seen.flush(&verifier.registry).await;
        Ok(())
    })
}

fn routes(verifier: Arc<Verifier>) -> Router {
    Router::new()
        .route(api::CHALLENGE, post(attest::challenge))
        .route(api::ENROL, post(enrol::begin))
        .route(api::ENROL_COMPLETE, post(enrol::complete))
        .route(api::ATTEST, post(attest::attest))
        .route(api::SECRETS, post(secrets::release))
        .route(api::ACCESSOR, post(accessor::note))
        .route(api::WATCH, post(watch::hold))
        .route(api::OPENID, get(discovery::openid))
        .route(api::JWKS, get(discovery::jwks))
        // Handlers read bodies by `Received`, whose maxima are smaller; nothing else may read any.
        .layer(DefaultBodyLimit::max(0))
        .fallback(refusal::not_found)
        .with_state(verifier)
}
