//! An HTTPS client on one connection that knows its exporter, as small as a test needs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rempart_attest::Fixed;
use rempart_attest::api::{EXPORTER_LABEL, EXPORTER_LEN, Refusal};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    pub exporter: Fixed<32>,
}

impl Client {
    pub fn connect(
        port: u16,
        root: &CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
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
        Ok(Self {
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
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).expect("sent");
        // A server that refuses a large body may close early; its answer is still read.
        let _sent = stream.write_all(body).and_then(|()| stream.flush());
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("status line");
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("header");
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("length");
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("body");
        (status, answer)
    }
}
