//! A TLS front before the vault that sees what an agent says and knows its connections' keys: what a test must know to look for it in
//! the agent's memory. It passes everything on unchanged.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hkdf;
use rempart_harness::{Pki, scan::Needle};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections whose keys are remembered: those that an agent can still have.
const REMEMBERED: usize = 40;

/// Secrets of TLS connections, as a key log gets them.
#[derive(Debug, Default)]
pub struct KeyLog(Mutex<Vec<Needle>>);

impl KeyLog {
    /// Values to look for.
    pub fn needles(&self) -> Vec<Needle> {
        let all = self.0.lock().expect("no panic");
        all.iter().rev().take(REMEMBERED * 8).cloned().collect()
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut all = self.0.lock().expect("no panic");
        let kind = match label {
            "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0" => {
                let (key, iv) = traffic_keys(secret);
                all.push(Needle::new("TLS traffic key", &key));
                all.push(Needle::new("TLS traffic IV", &iv));
                "TLS traffic secret"
            }
            "EXPORTER_SECRET" => "TLS exporter secret",
            _ => "TLS handshake secret",
        };
        all.push(Needle::new(kind, secret));
    }
}

/// Key and IV of a traffic secret (RFC 8446, 7.3).
fn traffic_keys(secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (algorithm, key) = if secret.len() == 48 {
        (hkdf::HKDF_SHA384, 32)
    } else {
        (hkdf::HKDF_SHA256, 16)
    };
    (
        label(algorithm, secret, b"tls13 key", key),
        label(algorithm, secret, b"tls13 iv", 12),
    )
}

fn label(algorithm: hkdf::Algorithm, secret: &[u8], name: &[u8], len: u8) -> Vec<u8> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let info = [&[0, len, name.len() as u8][..], name, &[0]].concat();
    let prk = hkdf::Prk::new_less_safe(algorithm, secret);
    let mut out = vec![0; usize::from(len)];
    prk.expand(&[&info], Len(out.len()))
        .and_then(|okm| okm.fill(&mut out))
        .expect("short enough");
    out
}

/// A client that trusts the tests' authority and logs its keys.
pub fn client(pki: &Pki, log: Arc<KeyLog>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(pki.ca()).expect("authority");
    roots.add(ca).expect("certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.key_log = log;
    config
}

/// The front.
pub struct Front {
    port: u16,
    keys: Arc<KeyLog>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Front {
    /// Takes a port, and passes its connections on to `behind`.
    pub async fn start(pki: &Pki, behind: u16) -> Self {
        let (keys, said) = (Arc::<KeyLog>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let identity = pki.identity("bao");
        let chain = vec![CertificateDer::from_pem_file(identity.certificate).expect("certificate")];
        let key = PrivateKeyDer::from_pem_file(identity.key).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("identity");
        config.key_log = keys.clone();
        let (acceptor, connector) = (
            TlsAcceptor::from(Arc::new(config)),
            TlsConnector::from(Arc::new(client(pki, Arc::default()))),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let (acceptor, connector, heard) = (acceptor.clone(), connector.clone(), heard.clone());
                tokio::spawn(async move {
                    let agent = acceptor.accept(agent).await?;
                    let vault = TcpStream::connect(("127.0.0.1", behind)).await?;
                    let name = ServerName::try_from("localhost").expect("name");
                    let vault = connector.connect(name, vault).await?;
                    let ((from_agent, to_agent), (from_vault, to_vault)) = (split(agent), split(vault));
                    tokio::select! {
                        end = pass(from_agent, to_vault, Some(&heard)) => end,
                        end = pass(from_vault, to_agent, None) => end,
                    }
                });
            }
        });
        Self { port, keys, said }
    }

    /// Where the agent finds the vault.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The keys of the agent's connections, the token and the results that it sent.
    pub fn needles(&self) -> Vec<Needle> {
        let mut needles = self.keys.needles();
        let said = String::from_utf8_lossy(&self.said.lock().expect("no panic")).into_owned();
        needles.extend(all_behind(&said, "\nx-vault-token: ", "\r").map(|token| Needle::new("vault token", token)));
        needles.extend(all_behind(&said, "\"jwt\":\"", "\"").map(|jwt| Needle::new("attestation result (JWT)", jwt)));
        needles
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heard: Option<&Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if let Some(heard) = heard {
            heard.lock().expect("no panic").extend_from_slice(&piece[..read]);
        }
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
    }
}

/// What lies between `start`, in any case, and `end`; each once.
fn all_behind<'a>(text: &'a str, start: &str, end: &str) -> impl Iterator<Item = &'a [u8]> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<&[u8]> = lower
        .match_indices(start)
        .filter_map(|(at, _)| text.get(at + start.len()..)?.split(end).next())
        .map(str::as_bytes)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter()
}
