//! An HTTPS client on one connection that knows its exporter, as small as a test needs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rempart_attest::Fixed;
use rempart_attest::api::{EXPORTER_LABEL, EXPORTER_LEN, Refusal};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    pub exporter: Fixed<32>,
    /// Name of the key exchange group.
    pub group: String,
}

impl Client {
    pub fn connect(
        port: u16,
        root: &CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<Self, String> {
        Self::connect_by(port, root, versions, rustls::crypto::aws_lc_rs::default_provider())
    }

    /// As a client that knows only the classical key exchange.
    pub fn connect_without_hybrid(port: u16, root: &CertificateDer<'static>) -> Self {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        Self::connect_by(port, root, &[&rustls::version::TLS13], provider).expect("connects")
    }

    fn connect_by(
        port: u16,
        root: &CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("root");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("client");
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(|e| e.to_string())?;
        }
        let exporter = tls
            .export_keying_material([0; EXPORTER_LEN], EXPORTER_LABEL, None)
            .expect("exporter");
        let group = tls.negotiated_key_exchange_group().expect("group").name();
        Ok(Self {
            group: format!("{group:?}"),
            stream: BufReader::new(StreamOwned::new(tls, tcp)),
            exporter: Fixed(exporter),
        })
    }

    pub fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, Refusal> {
        self.send("POST", path, &serde_json::to_vec(body).expect("json"))
    }

    pub fn send<T: DeserializeOwned>(&mut self, method: &str, path: &str, body: &[u8]) -> Result<T, Refusal> {
        let (status, answer) = self.raw(method, path, body);
        if status == 200 {
            return Ok(serde_json::from_slice(&answer).expect("the answer's JSON"));
        }
        Err(serde_json::from_slice(&answer)
            .unwrap_or_else(|_| panic!("{status}: {}", String::from_utf8_lossy(&answer))))
    }

    pub fn raw(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let length = body.len();
        self.begin(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        ));
        self.more(body);
        self.answer().expect("an answer")
    }

    /// Sends a head, or a part of one.
    pub fn begin(&mut self, head: &str) {
        let stream = self.stream.get_mut();
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.flush())
            .expect("sent");
    }

    /// Sends a part of a body. A server that refuses it may close early; its answer is still read.
    pub fn more(&mut self, body: &[u8]) -> bool {
        let stream = self.stream.get_mut();
        stream.write_all(body).and_then(|()| stream.flush()).is_ok()
    }

    /// Whether an answer is there already: what a client looks for while it sends (RFC 9112, 9.5).
    pub fn is_answered(&mut self) -> bool {
        let StreamOwned { conn, sock } = self.stream.get_mut();
        sock.set_nonblocking(true).expect("socket");
        let mut answered = false;
        while !answered && conn.read_tls(sock).is_ok_and(|read| read > 0) {
            answered = conn
                .process_new_packets()
                .is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        }
        sock.set_nonblocking(false).expect("socket");
        answered
    }

    /// Reads a whole answer; none when the connection ends before one.
    pub fn answer(&mut self) -> Option<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).ok()?;
        Some((status, answer))
    }
}
