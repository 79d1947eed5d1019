//! A second TLS server between node and Verifier, with a certificate that the node believes: it reads everything, passes every byte on
//! over a connection of its own, and gets nothing, because the quote is bound to the node's connection and not to the relay's.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use support::client::Client;
use support::node::{attest, checks, evidence, ready, refused};

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// How long one side is listened to before the other one is.
const TURN: Duration = Duration::from_millis(20);

/// A relay for one connection; the thread gives how many bytes it passed to the Verifier.
struct Relay {
    port: u16,
    root: CertificateDer<'static>,
    thread: JoinHandle<usize>,
}

impl Relay {
    /// Ends the node's TLS and begins another one to the Verifier.
    fn between(verifier_port: u16, verifier_root: &CertificateDer<'static>) -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("key");
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(TLS13)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("certificate");
        let mut roots = RootCertStore::empty();
        roots.add(verifier_root.clone()).expect("root");
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(TLS13)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::start(own.cert.der().clone(), move |node| {
            let tls = ServerConnection::new(Arc::new(server)).expect("server");
            let node = StreamOwned::new(tls, node);
            let name = ServerName::try_from("localhost").expect("name");
            let tls = ClientConnection::new(Arc::new(client), name).expect("client");
            let verifier = StreamOwned::new(tls, connect(verifier_port));
            pass_on(node, verifier)
        })
    }

    /// Passes on the TLS records themselves, as any router does.
    fn of_records(verifier_port: u16, verifier_root: &CertificateDer<'static>) -> Self {
        Self::start(verifier_root.clone(), move |node| pass_on(node, connect(verifier_port)))
    }

    fn start(root: CertificateDer<'static>, serve: impl FnOnce(TcpStream) -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        let thread = std::thread::spawn(move || {
            let (node, _) = listener.accept().expect("the node");
            node.set_read_timeout(Some(TURN)).expect("socket");
            serve(node)
        });
        Self { port, root, thread }
    }
}

fn connect(port: u16) -> TcpStream {
    let verifier = TcpStream::connect(("127.0.0.1", port)).expect("the Verifier");
    verifier.set_read_timeout(Some(TURN)).expect("socket");
    verifier
}

/// Both ways until one side ends; gives the bytes that went to the Verifier.
fn pass_on(mut node: impl Read + Write, mut verifier: impl Read + Write) -> usize {
    let (mut buffer, mut passed) = (vec![0; 65536], 0);
    loop {
        match turn(&mut node, &mut verifier, &mut buffer) {
            Some(bytes) => passed += bytes,
            None => return passed,
        }
        if turn(&mut verifier, &mut node, &mut buffer).is_none() {
            return passed;
        }
    }
}

/// What is there now; none at the end.
fn turn(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> Option<usize> {
    match from.read(buffer) {
        Ok(0) => None,
        Ok(read) => {
            to.write_all(&buffer[..read]).and_then(|()| to.flush()).ok()?;
            Some(read)
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(0),
        Err(_) => None,
    }
}

#[test]
fn a_second_tls_server_between_node_and_verifier_is_refused_by_the_binding() {
    let (verifier, tpm, certificate) = ready();
    let play = |relay: &Relay| {
        let mut client = Client::connect(relay.port, &relay.root, TLS13).expect("the node believes the relay");
        let round = evidence(&mut client, &tpm, "demo-1", &certificate, None);
        (client, round)
    };
    // Whoever passes on records is no party of the connection: affirmed, so that it is not the detour that is refused.
    let honest = Relay::of_records(verifier.port(), verifier.root());
    let (mut client, round) = play(&honest);
    attest(&mut client, &round).expect("affirmed through a router");
    drop(client);
    assert!(honest.thread.join().expect("ends") > round.evidence.to_cbor().len());

    let relay = Relay::between(verifier.port(), verifier.root());
    let (mut client, round) = play(&relay);
    let findings = refused(&mut client, &round);
    assert_eq!(checks(&findings), [("binding", None)]);
    assert!(findings[0].what.contains("relayed"), "{}", findings[0].what);
    drop(client);
    let passed = relay.thread.join().expect("ends");
    assert!(
        passed > round.evidence.to_cbor().len(),
        "the Evidence did not pass: {passed} bytes"
    );
    // The relay's own connection is as good as any: what it lacks is the TPM.
    let mut direct = verifier.connect();
    let round = evidence(&mut direct, &tpm, "demo-1", &certificate, None);
    attest(&mut direct, &round).expect("nobody was latched for what a relay did");
}
