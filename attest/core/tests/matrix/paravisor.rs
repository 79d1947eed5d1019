//! Reports that a paravisor keeps in the virtual TPM (SEV-SNP on Azure): they name the AK through runtime data.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rempart_attest::bytes::sha256;
use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::Generation;
use rempart_attest::tee::testing::snp::{Chip, policy};
use rempart_attest::tee::{TeeKind, TeeProvider};
use rempart_attest::testing::{AkKind, NOW, SoftTpm};
use rempart_attest::{Blob, Fixed};

use super::scene::{Scene, rsa};
use super::{Case, case};

/// RSAPublicKey of 2048 bits (RFC 8017, A.1.1): SEQUENCE, INTEGER with a zero in front, then the modulus.
const MODULUS: std::ops::Range<usize> = 9..9 + 256;

fn runtime_data(tpm: &SoftTpm, user_data: &Fixed<64>) -> Vec<u8> {
    let modulus = BASE64_URL_SAFE_NO_PAD.encode(&tpm.key.subject_public_key()[MODULUS]);
    let key = format!(r#"{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{modulus}"}}"#);
    format!(r#"{{"keys":[{key}],"vm-configuration":{{"secure-boot":true}},"user-data":"{user_data}"}}"#).into_bytes()
}

/// A report over `committed` that comes with `sent`.
fn show(scene: &mut Scene, committed: &[u8], sent: &[u8]) {
    let chip = Chip::new(Generation::Milan);
    let mut report_data = Fixed::ZERO;
    report_data.0[..32].copy_from_slice(&sha256(committed).0);
    scene.endorsements = chip.endorsements(NOW);
    scene.evidence.tee = Some(TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::VtpmNv,
        report: Blob(chip.report(&report_data)),
        certificates: Blob(chip.table()),
        runtime_data: Blob(sent.to_vec()),
    });
}

fn genuine() -> Scene {
    let mut scene = rsa();
    scene.policy.images[0].snp = Some(policy(Generation::Milan));
    let data = runtime_data(&scene.node.tpm, &scene.node.binding(&scene.evidence));
    show(&mut scene, &data, &data);
    scene
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("paravisor: runtime data that the report does not commit to", genuine, |s| {
        let data = &mut s.evidence.tee.as_mut().expect("tee").runtime_data.0;
        *data.last_mut().expect("a brace") = b' ';
    }, &["tee-runtime-digest"]),
    case("paravisor: runtime data that is no JSON", genuine, |s| show(s, b"no json", b"no json"), &["tee-runtime-data"]),
    case("paravisor: runtime data that names another AK", genuine, |s| {
        let data = runtime_data(&SoftTpm::new(AkKind::RsaSsa), &s.node.binding(&s.evidence));
        show(s, &data, &data);
    }, &["tee-ak"]),
    case("paravisor: a report of the boot and not of this exchange", genuine, |s| {
        let data = runtime_data(&s.node.tpm, &Fixed([9; 64]));
        show(s, &data, &data);
    }, &["tee-boot-time-report"]),
];
