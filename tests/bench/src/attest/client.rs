//! One HTTPS connection from a node's own loopback address, as an agent would hold it for one attestation: no resumption, because a
//! node comes back after minutes, and the exporter of this connection goes into the binding.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rempart_attest::Fixed;
use rempart_attest::api::{EXPORTER_LABEL, EXPORTER_LEN};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An answer's headers, bytes at most.
const HEADERS: usize = 8 * 1024;

/// A connection.
pub struct Client {
    stream: TlsStream<TcpStream>,
    /// TLS exporter of the connection.
    pub exporter: Fixed<32>,
}

/// TLS 1.3 that trusts the certificates in `ca` (PEM).
pub fn tls(ca: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Client {
    /// Connects to the Verifier on `port` from `address`.
    pub async fn connect(tls: &TlsConnector, address: Ipv4Addr, port: u16) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Thousands of connections a minute from one address would use up its ports; a fleet has many addresses.
        socket.bind(SocketAddr::from((address, 0))).context("bind")?;
        let stream = socket
            .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .await
            .context("connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = tls.connect(name, stream).await.context("TLS")?;
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; EXPORTER_LEN], EXPORTER_LABEL, None)?;
        Ok(Self {
            stream,
            exporter: Fixed(exporter),
        })
    }

    /// POSTs `body` and gives status and answer.
    pub async fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat()).await?;
        self.stream.flush().await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut got = Vec::with_capacity(2048);
        let end = loop {
            if let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if got.len() > HEADERS || self.stream.read_buf(&mut got).await? == 0 {
                bail!("no answer");
            }
        };
        let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no length")?.trim().parse()?;
        let mut body = got.split_off(end);
        while body.len() < length {
            if self.stream.read_buf(&mut body).await? == 0 {
                bail!("the answer was cut");
            }
        }
        Ok((status, body))
    }
}
