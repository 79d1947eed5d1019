//! Connections: how many, how long, and which keying material each has. A client that is slow or silent loses its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rempart_attest::{Fixed, api};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::config::Config;
use crate::error::Error;
use crate::file;

/// Connections at once: at about 100 KiB each they stay below 100 MiB.
const CONNECTIONS: usize = 1024;
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For one request's headers, and for silence between requests: a quote on a slow TPM lies between challenge and Evidence.
const HEADERS: Duration = Duration::from_secs(30);
/// For one request with its body and answer.
const REQUEST: Duration = Duration::from_secs(30);
/// For a whole connection: an attestation with enrolment takes a minute on a slow TPM.
const CONNECTION: Duration = Duration::from_secs(300);
/// After an accept error (no descriptors left), so that the loop does not spin.
const RECOVERY: Duration = Duration::from_millis(100);

/// The exporter of the connection that a request came on.
#[derive(Clone, Copy)]
pub struct Exporter(pub Fixed<32>);

/// TLS 1.3 with the configured certificate; the key exchange prefers X25519MLKEM768.
pub fn tls(config: &Config) -> Result<Arc<ServerConfig>, Error> {
    let pem = file::read(&config.tls_certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|c| !c.is_empty());
    let chain = chain.ok_or_else(|| Error::Key {
        path: config.tls_certificate.clone(),
        what: "a PEM certificate",
    })?;
    let pem = zeroize::Zeroizing::new(file::read(&config.tls_key)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| Error::Key {
        path: config.tls_key.clone(),
        what: "a PEM private key",
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// Accepts until the process is told to stop, then lets open requests end.
pub async fn serve(address: SocketAddr, tls: Arc<ServerConfig>, routes: Router) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stop = std::pin::pin!(stopped());
    tracing::info!("listening on {}", listener.local_addr().unwrap_or(address));
    loop {
        let place = places
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(RECOVERY).await;
                    continue;
                }
            },
        };
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            if let Ok(Err(e)) = timeout(CONNECTION, talk(stream, acceptor, routes)).await {
                tracing::debug!("connection from {peer}: {e}");
            }
            drop(place);
        });
    }
    tracing::info!("stopping");
    let all = u32::try_from(CONNECTIONS).expect("a thousand fits");
    // Nobody waits for silent clients longer than for a request.
    let _ended = timeout(REQUEST, places.acquire_many(all)).await;
    Ok(())
}

async fn talk(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    routes: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; api::EXPORTER_LEN], api::EXPORTER_LABEL, None)?;
    let exporter = Exporter(Fixed(exporter));
    let service = hyper::service::service_fn(move |request| answer(request, exporter, routes.clone()));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn answer(
    mut request: Request<Incoming>,
    exporter: Exporter,
    routes: Router,
) -> Result<Response<Body>, hyper::Error> {
    request.extensions_mut().insert(exporter);
    let answered = timeout(REQUEST, routes.oneshot(request.map(Body::new))).await;
    Ok(answered.map_or_else(|_| super::refusal::too_slow(), |Ok(response)| response))
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("the run time handles signals");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
