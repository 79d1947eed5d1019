//! HTTPS to one server of the owner's: HTTP/1.1 over TLS 1.3, trusted by one CA from a file and by no other.
//!
//! Must never use a proxy, follow a redirect, fall back to an older TLS, or read more than it was told to.
//! RFC 8446 (TLS 1.3; section 7.5 for the exporter), RFC 9112.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rempart_attest::api::{EXPORTER_LABEL, EXPORTER_LEN, Refusal};
use rempart_core::config::Origin;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert, sign::SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{Identity, error::one_line};

/// Name resolution, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(15);
/// One request and its answer; appraisal takes milliseconds, slow links take seconds.
const EXCHANGE: Duration = Duration::from_secs(60);
/// Room for a question in JSON, in bytes: a result of 16 KiB and the names of 256 secrets at their longest.
const MAX_QUESTION: usize = 192 * 1024;
/// Longest answer, in bytes: a bundle of secrets at the Verifier's own maxima.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The CA file holds no certificate.
    #[error("{file} holds no usable PEM certificate: {why}; put the owner's CA certificate there")]
    OperatorCa {
        /// Its path.
        file: String,
        /// One line.
        why: String,
    },
    /// No connection, or it broke.
    #[error("{server} cannot be reached: {why}; check the network, the server, and its CA in the configuration")]
    Unreachable {
        /// Its origin.
        server: String,
        /// One line.
        why: String,
    },
    /// The server answered something that is not of the protocol.
    #[error(
        "{server} answered {path} with something that is no answer to it: {why}; bring both ends to the same release"
    )]
    ServerMalformed {
        /// Its origin.
        server: String,
        /// The path asked.
        path: &'static str,
        /// One line.
        why: String,
    },
    /// The server refused the request.
    #[error("{server} refused {path} (HTTP {status}): {}", one_line(&refusal.error))]
    Refused {
        /// Its origin.
        server: String,
        /// The path asked.
        path: &'static str,
        /// 4xx or 5xx.
        status: u16,
        /// The line and the findings.
        refusal: Box<Refusal>,
    },
}

/// TLS 1.3 with aws-lc-rs, and one CA. The provider's order of key exchange groups is kept: X25519MLKEM768 (hybrid with
/// ML-KEM, draft-ietf-tls-ecdhe-mlkem) comes first and its key share is in the first flight.
#[derive(Clone)]
pub struct Trust {
    pub(crate) config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Trusts what the certificates in `pem` have signed; `file` is for the error only.
    pub fn pinned(file: &str, pem: &[u8]) -> Result<Self, HttpsError> {
        let wrong = |why: String| HttpsError::OperatorCa {
            file: file.to_owned(),
            why: one_line(&why),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(|error| wrong(error.to_string()))?)
                .map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("no certificate in it".into()));
        }
        let roots = Arc::new(roots);
        let config = Arc::new(
            builder(&roots)
                .map_err(|error| wrong(error.to_string()))?
                .with_no_client_auth(),
        );
        Ok(Self { config, roots })
    }

    /// The same trust, and `identity` for a server that asks who we are. Shares no connection and no session ticket with `self`.
    pub fn presenting(&self, identity: &Identity) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(SingleCertAndKey::from(identity.0.clone()));
        Ok(Self {
            config: Arc::new(builder(&self.roots)?.with_client_cert_resolver(resolver)),
            roots: self.roots.clone(),
        })
    }
}

fn builder(roots: &Arc<RootCertStore>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_root_certificates(roots.clone()))
}

/// One connection, and what both ends can derive from it.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    server: String,
    host: String,
    exporter: [u8; EXPORTER_LEN],
    group: String,
    driver: AbortHandle,
}

impl Connection {
    /// Connects to `origin`.
    pub async fn open(origin: &Origin, trust: &Trust) -> Result<Self, HttpsError> {
        let server = origin.url();
        let unreachable = |why: String| HttpsError::Unreachable {
            server: server.clone(),
            why: one_line(&why),
        };
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| unreachable(error.to_string()))?;
        let connect = async {
            let tcp = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(trust.config.clone()).connect(name, tcp).await
        };
        let tls = match timeout(CONNECT, connect).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable(format!("no connection within {} s", CONNECT.as_secs()))),
        };
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material([0; EXPORTER_LEN], EXPORTER_LABEL, None)
            .map_err(|error| unreachable(error.to_string()))?;
        let group = tls.get_ref().1.negotiated_key_exchange_group();
        let group = group.map_or_else(String::new, |group| format!("{:?}", group.name()));
        let (sender, connection) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        // Its error also comes out of the request that was waiting, so nothing is lost by dropping it here.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let host = format!("{}:{}", origin.host, origin.port);
        Ok(Self {
            sender,
            server,
            host,
            exporter,
            group,
            driver,
        })
    }

    /// The connection's exported keying material (label [`EXPORTER_LABEL`], no context).
    pub fn exporter(&self) -> &[u8; EXPORTER_LEN] {
        &self.exporter
    }

    /// The key exchange group of the handshake by its name in the TLS registry, such as `X25519MLKEM768`.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Posts `message` as JSON.
    pub async fn post<A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        message: &impl Serialize,
    ) -> Result<A, HttpsError> {
        self.post_patiently(path, message, EXCHANGE).await
    }

    /// As [`Connection::post`], for a server that holds its answer back for up to `patience`.
    pub async fn post_patiently<A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        message: &impl Serialize,
        patience: Duration,
    ) -> Result<A, HttpsError> {
        // Reserved at once: a growing buffer would leave copies of a token behind.
        let mut body = Vec::with_capacity(MAX_QUESTION);
        let written = serde_json::to_writer(&mut body, message);
        // Taken over before anything can fail, so that it is wiped in any case.
        let body = Zeroizing::new(body);
        written.map_err(|error| self.malformed(path, &error.to_string()))?;
        self.send(path, "application/json", body, patience).await
    }

    /// Posts `body` as it is.
    pub async fn post_as<A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<A, HttpsError> {
        self.send(path, content_type, Zeroizing::new(body), EXCHANGE).await
    }

    async fn send<A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        content_type: &'static str,
        body: Zeroizing<Vec<u8>>,
        patience: Duration,
    ) -> Result<A, HttpsError> {
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from_owner(body)))
            .map_err(|error| self.malformed(path, &error.to_string()))?;
        let unreachable = |why: String| HttpsError::Unreachable {
            server: self.server.clone(),
            why: one_line(&why),
        };
        let sent = self.sender.send_request(request);
        let exchange = async {
            let response = sent.await.map_err(|error| unreachable(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok::<_, HttpsError>((status, body.map_err(|error| unreachable(error.to_string()))?.to_bytes()))
        };
        let (status, answer) = timeout(patience, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", patience.as_secs())))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&answer).map_err(|error| self.malformed(path, &error.to_string()));
        }
        let refusal = serde_json::from_slice(&answer).unwrap_or_else(|_| Refusal {
            error: "the server gave no reason".into(),
            findings: Vec::new(),
            latched: false,
        });
        Err(HttpsError::Refused {
            server: self.server.clone(),
            path,
            status: status.as_u16(),
            refusal: Box::new(refusal),
        })
    }

    fn malformed(&self, path: &'static str, why: &str) -> HttpsError {
        HttpsError::ServerMalformed {
            server: self.server.clone(),
            path,
            why: one_line(why),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_trusts_nobody_and_is_an_error() {
        assert!(matches!(Trust::pinned("/x", b""), Err(HttpsError::OperatorCa { .. })));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Trust::pinned("/x", broken),
            Err(HttpsError::OperatorCa { .. })
        ));
    }
}
