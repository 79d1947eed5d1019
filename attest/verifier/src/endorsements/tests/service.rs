//! A vendor's service for tests: a real server, by HTTP or HTTPS, that counts what it is asked for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::testing::snp::{Chip, LEVELS, Pki};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::endorsements::settings::Kds;

/// What it knows, and what it was asked.
#[derive(Default)]
pub struct Known {
    pub answers: HashMap<String, Vec<u8>>,
    pub asked: Vec<String>,
    pub delay: Duration,
    pub status: Option<StatusCode>,
}

/// A running service.
#[derive(Clone)]
pub struct Service {
    pub url: String,
    pub ca: Option<PathBuf>,
    known: Arc<Mutex<Known>>,
}

impl Service {
    /// By HTTP.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// By HTTPS, with a certificate for 127.0.0.1 whose PEM lies at `ca`.
    pub async fn start_tls(ca: PathBuf) -> Self {
        Self::listen(Some(ca)).await
    }

    async fn listen(ca: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address");
        let acceptor = ca.as_ref().map(|path| {
            let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("certificate");
            std::fs::write(path, key.cert.pem()).expect("written");
            let private = rustls_pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![key.cert.der().clone()], private)
                .expect("key");
            TlsAcceptor::from(Arc::new(config))
        });
        let scheme = if ca.is_some() { "https" } else { "http" };
        let service = Self {
            url: format!("{scheme}://{address}"),
            ca,
            known: Arc::default(),
        };
        let known = service.known.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (known, acceptor) = (known.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let answer = hyper::service::service_fn(move |request| answer(request, known.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    match acceptor {
                        None => drop(http.serve_connection(TokioIo::new(stream), answer).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), answer).await);
                            }
                        }
                    }
                });
            }
        });
        service
    }

    pub fn kds(&self) -> Kds {
        Kds {
            url: self.url.clone(),
            ca: self.ca.clone(),
        }
    }

    /// The same, believed by another authority.
    pub fn with_ca(&self, ca: Option<PathBuf>) -> Self {
        Self { ca, ..self.clone() }
    }

    pub fn set(&self, edit: impl FnOnce(&mut Known)) {
        edit(&mut self.known.lock().expect("lock"));
    }

    /// Everything that AMD would know of a chip, and of its generation.
    pub fn knows(&self, chip: &Chip, now: u64) {
        let pki = chip.pki();
        self.knows_generation(pki, now);
        self.set(|known| drop(known.answers.insert(vcek_path(chip), chip.certificate.clone())));
    }

    pub fn knows_generation(&self, pki: &Pki, now: u64) {
        let line = pki.generation;
        self.set(|known| {
            for (kind, name) in [(SigningKey::Vcek, "vcek"), (SigningKey::Vlek, "vlek")] {
                let chain = pki.chain_pem(kind).into_bytes();
                known.answers.insert(format!("/{name}/v1/{line}/cert_chain"), chain);
                known
                    .answers
                    .insert(format!("/{name}/v1/{line}/crl"), pki.crl(now, &[]));
            }
        });
    }

    /// How often it was asked for paths with `part` in them.
    pub fn count(&self, part: &str) -> usize {
        let known = self.known.lock().expect("lock");
        known.asked.iter().filter(|path| path.contains(part)).count()
    }
}

/// The path and query by which AMD names a chip's key.
pub fn vcek_path(chip: &Chip) -> String {
    let generation = chip.pki().generation;
    let id = hex::encode(&chip.chip_id.0[..generation.chip_id_len()]);
    let levels = LEVELS;
    let fmc = if generation.chip_id_len() == 8 { "fmcSPL=0&" } else { "" };
    format!(
        "/vcek/v1/{generation}/{id}?{fmc}blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}",
        levels.bootloader, levels.tee, levels.snp, levels.microcode
    )
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    known: Arc<Mutex<Known>>,
) -> Result<Response<axum::body::Body>, std::convert::Infallible> {
    let path = request.uri().to_string();
    let (delay, answer, status) = {
        let mut known = known.lock().expect("lock");
        known.asked.push(path.clone());
        (known.delay, known.answers.get(&path).cloned(), known.status)
    };
    tokio::time::sleep(delay).await;
    let (status, body) = match (status, answer) {
        (Some(status), _) => (status, Bytes::new()),
        (None, Some(answer)) => (StatusCode::OK, answer.into()),
        (None, None) => (StatusCode::NOT_FOUND, Bytes::new()),
    };
    let mut response = Response::new(axum::body::Body::from(body));
    *response.status_mut() = status;
    Ok(response)
}
