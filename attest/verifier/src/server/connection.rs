//! Connections: how many, how long, and which keying material each has. A client that is slow or silent loses its place.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rempart_attest::{Fixed, api, limits};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::Verifier;
use super::admission::Source;
use super::refusal::Refused;
use crate::config::Config;
use crate::error::Error;
use crate::file;

/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For one request's headers, and for silence between requests: a quote on a slow TPM lies between challenge and Evidence.
const HEADERS: Duration = Duration::from_secs(30);
/// For one request with its body and answer.
const REQUEST: Duration = Duration::from_secs(30);
/// For a question that is held, which ends by itself before.
const HELD: Duration = Duration::from_secs(limits::WATCH_HOLD + 10);
/// For a whole connection: an attestation with enrolment takes a minute on a slow TPM, a held question four.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long, and how much, an ended connection may still send before it is cut off. A client that looks for an answer only when all is
/// sent gets it too, as long as it does not send much more than anybody could by mistake; nothing of it is decrypted or kept.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 128 * 1024 * 1024;
/// Bytes that are read ahead of the parser: heads of requests; bodies are taken as they come.
const READ_AHEAD: usize = 32 * 1024;
/// Header lines of one request; ours have a handful.
const HEADER_LINES: usize = 32;
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
pub async fn serve(tls: Arc<ServerConfig>, verifier: Arc<Verifier>, routes: Router) -> Result<(), Error> {
    let address = verifier.config.listen;
    let connections = verifier.config.limits.connections;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(usize::MAX >> 3)));
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
        let source = Source::from(peer.ip());
        let Some(mine) = verifier.admission.connection(source) else {
            tracing::debug!("{} comes too often or has too many connections", peer.ip());
            continue;
        };
        let (acceptor, routes, verifier) = (acceptor.clone(), routes.clone(), verifier.clone());
        tokio::spawn(async move {
            if let Ok(Err(e)) = timeout(CONNECTION, talk(stream, source, acceptor, routes, verifier)).await {
                tracing::debug!("connection from {peer}: {e}");
            }
            drop((mine, place));
        });
    }
    tracing::info!("stopping");
    // Nobody waits for silent clients longer than for a request.
    let _ended = timeout(REQUEST, places.acquire_many(connections)).await;
    Ok(())
}

async fn talk(
    stream: TcpStream,
    source: Source,
    acceptor: TlsAcceptor,
    routes: Router,
    verifier: Arc<Verifier>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; api::EXPORTER_LEN], api::EXPORTER_LABEL, None)?;
    let exporter = Exporter(Fixed(exporter));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(exporter);
        request.extensions_mut().insert(source);
        Box::pin(answer(request, source, routes.clone(), verifier.clone()))
    });
    let mut http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(READ_AHEAD)
        .max_headers(HEADER_LINES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| http.poll_without_shutdown(context)).await;
    let parts = http.into_parts();
    let mut stream = parts.io.into_inner();
    // Silence between requests is an end without a word; a head that began is a request, and is told.
    if ended.as_ref().is_err_and(hyper::Error::is_timeout) && !parts.read_buf.is_empty() {
        stream.write_all(&Refused::too_slow().bytes()).await?;
    }
    linger(stream).await;
    Ok(ended?)
}

/// Ends a connection so that its last answer arrives: to close while the client is still sending would make its kernel throw that
/// answer away. What still comes is counted and dropped.
async fn linger(mut stream: TlsStream<TcpStream>) {
    let rest = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut sink = [0; 4096];
        let (tcp, _) = stream.get_mut();
        loop {
            match tcp.read(&mut sink).await? {
                0 => return std::io::Result::Ok(()),
                read => left = left.checked_sub(read).ok_or(std::io::ErrorKind::FileTooLarge)?,
            }
        }
    };
    let _ended = timeout(LINGER, rest).await;
}

async fn answer(
    request: Request<Incoming>,
    source: Source,
    routes: Router,
    verifier: Arc<Verifier>,
) -> Result<Response<Body>, Infallible> {
    if let Err(refused) = verifier.admission.request(source) {
        // Its body is not read, so nothing can follow it.
        return Ok(refused.closing().into_response());
    }
    let patience = if request.uri().path() == api::WATCH {
        HELD
    } else {
        REQUEST
    };
    let answered = timeout(patience, routes.oneshot(request.map(Body::new))).await;
    Ok(answered.map_or_else(|_| Refused::too_slow().into_response(), |Ok(response)| response))
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("the run time handles signals");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
