//! Who it is: enrolment keys, their certificates, and the certificate that the Verifier gave.

use rempart_attest::Fixed;
use rempart_attest::policy::Identity;
use rempart_attest::testing::Authority;
use rempart_attest::tpm::public::{ak, ek};

use super::scene::{NODE, Scene, ordinary, rsa, sha384};
use super::{Case, case};

/// TPMA_OBJECT bits (Part 2, 8.3).
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
const X509_SIGN: u32 = 1 << 19;

fn ak_with(scene: &mut Scene, changed: u32) {
    let point = [&[4][..], &[1; 32], &[2; 32]].concat();
    scene.ak_public = ak::build(ak::ATTRIBUTES ^ changed, &point);
}

fn recertify(scene: &mut Scene, authority: &Authority, name: &str, ek: Fixed<32>, purpose: &[u64]) {
    scene.evidence.tpm.ak_certificate = authority.certify_for(name, &ek, &scene.node.tpm.key, purpose);
}

const AIK: &[u64] = &rempart_attest::ak::AIK_PURPOSE;
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("AK without restricted", ordinary, |s| ak_with(s, RESTRICTED), &["ak-public"]),
    case("AK without fixedTPM", ordinary, |s| ak_with(s, FIXED_TPM), &["ak-public"]),
    case("AK without fixedParent", ordinary, |s| ak_with(s, FIXED_PARENT), &["ak-public"]),
    case("AK without sensitiveDataOrigin", ordinary, |s| ak_with(s, SENSITIVE_DATA_ORIGIN), &["ak-public"]),
    case("AK without sign", ordinary, |s| ak_with(s, SIGN), &["ak-public"]),
    case("AK that decrypts", ordinary, |s| ak_with(s, DECRYPT), &["ak-public"]),
    case("AK with x509sign", ordinary, |s| ak_with(s, X509_SIGN), &["ak-public"]),
    case("EK in place of the AK", ordinary, |s| s.ak_public = ek::default_ek_template(&[0x81; 256]), &["ak-public"]),
    case("EK under another policy", ordinary, |s| s.ek_public[12] ^= 1, &["ek-public"]),
    case("EK without restricted", ordinary, |s| s.ek_public[7] ^= 1, &["ek-public"]),
    case("unknown EK: no trusted manufacturer", ordinary, |s| s.ek_roots.clear(), &["ek-certificate"]),
    case("EK certificate of another EK", ordinary, |s| {
        *s.ek_public.last_mut().expect("modulus") ^= 2;
    }, &["ek-certificate"]),
    case("EK certificate with a changed signature", ordinary, |s| {
        *s.ek_certificate.last_mut().expect("signature") ^= 1;
    }, &["ek-certificate"]),
    case("AK certificate by another authority", ordinary, |s| {
        recertify(s, &Authority::default(), NODE, s.node.ek, AIK);
    }, &["ak-certificate"]),
    case("AK certificate of another node", ordinary, |s| {
        let pem = s.authority.certify("demo-2", &s.node.ek, &s.node.tpm.key);
        s.evidence.tpm.ak_certificate = pem;
    }, &["ak-certificate"]),
    case("certificate of the authority for another purpose", ordinary, |s| {
        let pem = s.authority.certify_for(NODE, &s.node.ek, &s.node.tpm.key, CLIENT_AUTH);
        s.evidence.tpm.ak_certificate = pem;
    }, &["ak-certificate"]),
    case("AK certificate that is none", ordinary, |s| s.evidence.tpm.ak_certificate = "PEM".into(), &["ak-certificate"]),
    case("two AK certificates", rsa, |s| {
        let pem = s.evidence.tpm.ak_certificate.clone();
        s.evidence.tpm.ak_certificate.push_str(&pem);
    }, &["ak-certificate"]),
    case("AK activated with another EK", ordinary, |s| {
        let pem = s.authority.certify(NODE, &Fixed([9; 32]), &s.node.tpm.key);
        s.evidence.tpm.ak_certificate = pem;
    }, &["ek"]),
    case("name held by another TPM now", sha384, |s| s.node.ek = Fixed([9; 32]), &["ek"]),
    case("first use where the policy wants more", ordinary, |s| {
        s.policy.identity = vec![Identity::Certified, Identity::Listed];
        s.identity = Identity::FirstUse;
    }, &["identity"]),
];
