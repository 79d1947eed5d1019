//! What our links negotiate, read from the handshakes themselves.

use rempart_backend::https::{Connection, Trust};
use rempart_core::config::Origin;
use rempart_harness::OpenBao;

use crate::{ALLOW, world::World};

/// RFC 9794's word for it: post-quantum and traditional together. Its code point is 0x11ec.
const HYBRID: &str = "X25519MLKEM768";

#[tokio::test(flavor = "multi_thread")]
async fn every_link_of_the_agent_is_tls_1_3_with_a_hybrid_key_exchange() {
    let mut world = World::new().await;
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    let ca = std::fs::read(world.pki.ca()).expect("CA");
    let trust = Trust::pinned("the test's CA", &ca).expect("trust");
    let (_, port) = world
        .verifier_url()
        .rsplit_once(':')
        .map(|(url, port)| (url.to_owned(), port.to_owned()))
        .expect("a port");
    let verifier: u16 = port.parse().expect("a number");
    // The Verifier is the store too; accessors and watched policies go over the same kind of connection.
    for (name, port) in [("Verifier and its store", verifier), ("OpenBao", bao.port())] {
        let host = "localhost".to_owned();
        let link = Connection::open(&Origin { host, port }, &trust).await.expect(name);
        assert_eq!(link.group(), HYBRID, "{name}");
    }
    // And the running agent says so of its own connection.
    world.start_agent(ALLOW);
    world.wait_for_state("unlocked");
    assert_eq!(world.attestation()["key_exchange"], HYBRID);
}
