//! AMD's key distribution service (57230, 4), or a cache that speaks as it does. What it gives is verified by whoever asked; here it is
//! only bounded: in time, in size, in how many at once and how many a minute, and never asked twice at once for the same thing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::snp::{Generation, Tcb};
use rempart_attest::{Fixed, certificate, limits};
use reqwest::StatusCode;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use super::chip_name;
use super::flights::Flights;
use super::settings::Kds;
use crate::error::Error;
use crate::file;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole answer. Tests wait for it to pass.
const ANSWER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Requests at once.
const AT_ONCE: usize = 4;
/// Requests a minute: a fleet that starts for the first time asks once a chip; the service itself limits its askers.
const A_MINUTE: u32 = 240;
/// A chain, bytes.
const CHAIN: usize = 2 * limits::CERTIFICATE;

/// Why there is no answer. The service is to blame, or the way to it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VendorError {
    /// It knows of none.
    #[error("the vendor's service has none ({0})")]
    None(StatusCode),
    /// It refuses, or is ill.
    #[error("the vendor's service answered {0}")]
    Status(StatusCode),
    /// No answer, or none in time.
    #[error("the vendor's service did not answer: {0}")]
    Away(String),
    /// More than a certificate or list can have.
    #[error("the vendor's service answered with more than {0} bytes")]
    TooLarge(usize),
    /// We have asked enough for now.
    #[error("the vendor's service was asked {A_MINUTE} times within a minute already")]
    Budget,
}

/// The service.
pub struct Vendor {
    service: Arc<Service>,
    /// By path: a chip's key, a chain, a list.
    flights: Flights<String, Answer>,
}

type Answer = Result<Vec<u8>, VendorError>;

struct Service {
    url: String,
    http: reqwest::Client,
    places: Semaphore,
    spent: Mutex<(Option<Instant>, u32)>,
}

impl Vendor {
    /// Nothing is asked yet.
    pub fn new(kds: &Kds) -> Result<Self, Error> {
        let fail = |why: &dyn std::fmt::Display| Error::Usage(format!("the vendor's service cannot be asked: {why}"));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(kds)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|e| fail(&e))?;
        Ok(Self {
            service: Arc::new(Service {
                url: kds.url.clone(),
                http,
                places: Semaphore::new(AT_ONCE),
                spent: Mutex::default(),
            }),
            flights: Flights::default(),
        })
    }

    /// A chip's key at a TCB (DER).
    pub async fn vcek(&self, chip: &Fixed<64>, tcb: Tcb, generation: Generation) -> Result<Vec<u8>, VendorError> {
        let levels = tcb.levels(generation);
        let fmc = match generation {
            Generation::Milan | Generation::Genoa => String::new(),
            Generation::Turin => format!("fmcSPL={}&", levels.fmc),
        };
        let path = format!(
            "vcek/v1/{generation}/{}?{fmc}blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}",
            chip_name(chip, generation),
            levels.bootloader,
            levels.tee,
            levels.snp,
            levels.microcode
        );
        self.get(&path, limits::CERTIFICATE).await
    }

    /// Intermediate and root (PEM).
    pub async fn chain(&self, generation: Generation, kind: SigningKey) -> Result<Vec<u8>, VendorError> {
        self.get(&format!("{}/v1/{generation}/cert_chain", lower(kind)), CHAIN)
            .await
    }

    /// The revocation list (DER).
    pub async fn list(&self, generation: Generation, kind: SigningKey) -> Result<Vec<u8>, VendorError> {
        self.get(&format!("{}/v1/{generation}/crl", lower(kind)), limits::CRL)
            .await
    }

    async fn get(&self, path: &str, max: usize) -> Answer {
        let (service, to) = (self.service.clone(), path.to_owned());
        let flight = self
            .flights
            .ask(path.to_owned(), move || async move { service.get(&to, max).await });
        flight.await.unwrap_or(Err(VendorError::Budget))
    }
}

impl Service {
    async fn get(&self, path: &str, max: usize) -> Answer {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        self.spend()?;
        let away = |e: reqwest::Error| VendorError::Away(chain_of_causes(&e.without_url()));
        let mut answer = self
            .http
            .get(format!("{}/{path}", self.url))
            .send()
            .await
            .map_err(away)?;
        match answer.status() {
            StatusCode::OK => {}
            status @ (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => return Err(VendorError::None(status)),
            status => return Err(VendorError::Status(status)),
        }
        let mut out = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(away)? {
            if out.len() + part.len() > max {
                return Err(VendorError::TooLarge(max));
            }
            out.extend_from_slice(&part);
        }
        Ok(out)
    }

    fn spend(&self) -> Result<(), VendorError> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = spent.0.is_none_or(|since| since.elapsed() > Duration::from_secs(60));
        if fresh {
            *spent = (Some(Instant::now()), 0);
        }
        if spent.1 >= A_MINUTE {
            return Err(VendorError::Budget);
        }
        spent.1 += 1;
        Ok(())
    }
}

fn lower(kind: SigningKey) -> &'static str {
    match kind {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
    }
}

/// reqwest's own words say only that something failed; the cause below says what.
fn chain_of_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    words
}

/// TLS 1.2 or 1.3 with the named web roots: the service is the vendor's and not ours.
fn tls(kds: &Kds) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &kds.ca {
        let ders = certificate::pem_to_ders(&file::read(path)?).map_err(|source| Error::Certificate {
            path: path.clone(),
            source,
        })?;
        // Bundles hold roots that rustls does not take; the others are enough.
        let (taken, _) = roots.add_parsable_certificates(ders.into_iter().map(Into::into));
        if taken == 0 {
            return Err(Error::Usage(format!("{} holds no certificate", path.display())));
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
