//! Freshness and binding: another challenge, connection, boot, key or claim than the one that was signed.

use rempart_attest::testing::{AkKind, Authority, EK, NOW, Node, SoftTpm};
use rempart_attest::{ChallengeToken, Fixed, GuardClaim};

use super::scene::{Scene, ordinary, rsa};
use super::{Case, case};

fn foreign_challenge(scene: &mut Scene) {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[9; 32]);
    scene.evidence.challenge = ChallengeToken::issue(&key, NOW, [5; 16], &scene.node.verifier);
    scene.requote();
}

fn challenge_for_another_verifier(scene: &mut Scene) {
    scene.evidence.challenge = ChallengeToken::issue(&scene.node.challenge_key, NOW, [5; 16], "https://other.test");
    scene.requote();
}

fn replayed_quote(scene: &mut Scene) {
    scene.evidence.challenge = ChallengeToken::issue(&scene.node.challenge_key, NOW, [6; 16], &scene.node.verifier);
}

fn quote_of_another_node(scene: &mut Scene) {
    let other = Node::enrolled(&Authority::default(), "demo-2", EK, SoftTpm::new(AkKind::P256));
    scene.evidence.tpm.signature.0 = other.tpm.sign(&scene.evidence.tpm.quote.0);
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("foreign challenge", ordinary, foreign_challenge, &["challenge"]),
    case("challenge for another verifier", ordinary, challenge_for_another_verifier, &["challenge"]),
    case("stale challenge", ordinary, |s| s.now += 121, &["challenge"]),
    case("verifier's clock ten minutes behind", ordinary, |s| s.now -= 600, &["challenge"]),
    case("verifier's clock ten minutes ahead", ordinary, |s| s.now += 600, &["challenge"]),
    case("challenge with a changed byte", ordinary, |s| {
        let mut bytes = s.evidence.challenge.as_bytes().to_vec();
        bytes[3] ^= 1;
        s.evidence.challenge = ChallengeToken::from_bytes(bytes);
        s.requote();
    }, &["challenge"]),
    case("replayed quote under a fresh challenge", ordinary, replayed_quote, &["binding"]),
    case("replayed quote of an RSA key", rsa, replayed_quote, &["binding"]),
    case("relay: another TLS connection", ordinary, |s| s.node.exporter = Fixed([9; 32]), &["binding"]),
    case("another boot id than was signed", ordinary, |s| s.evidence.boot_id = Fixed([9; 16]), &["binding"]),
    case("another audit head than was signed", ordinary, |s| s.evidence.audit_head = Fixed([9; 32]), &["binding"]),
    case("another key for the result than was signed", ordinary, |s| s.evidence.ephemeral = Fixed([9; 32]), &["binding"]),
    case("a better guard claim than was signed", ordinary, |s| {
        s.evidence.guard = GuardClaim { enforcing: true, why: None };
    }, &["binding"]),
    case("a quote without qualifying data", ordinary, |s| s.requote_as(|b| b.extra_data = b""), &["binding"]),
    case("a quote signed by another node's key", ordinary, quote_of_another_node, &["signature"]),
];
