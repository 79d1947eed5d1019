//! The TLS key in the TPM: its signatures, and the attestation key's certification of it, judged by other implementations.

mod common;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use common::{Swtpm, loaded, tools::Tools};
use rempart_device::{AkKind, AkSource};
use tss_esapi::{
    structures::{Attest, AttestInfo, Public},
    traits::UnMarshall,
};
use x509_parser::prelude::FromDer;

#[test]
fn a_signature_verifies_under_the_key_that_is_shown() {
    let swtpm = Swtpm::start();
    let mut tpm = swtpm.open();
    let key = tpm.tls_key().expect("key");
    let (rest, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&key.spki).expect("SubjectPublicKeyInfo");
    assert!(rest.is_empty());
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki.subject_public_key.data.as_ref());
    // Enough that numbers with leading zeros and with a set top bit occur.
    for round in 0..40_u8 {
        let message = [round; 50];
        let hash = digest(&SHA256, &message);
        let signature = tpm
            .sign_tls(hash.as_ref().try_into().expect("32 bytes"))
            .expect("signature");
        verifier.verify(&message, &signature).expect("verifies");
        assert!(verifier.verify(&[round + 1; 50], &signature).is_err());
    }
    drop(tpm);
    assert_eq!(loaded(&swtpm), 0);
}

#[test]
fn the_key_signs_what_others_hashed_and_never_leaves_the_tpm() {
    let swtpm = Swtpm::start();
    let key = swtpm.open().tls_key().expect("key");
    let public = Public::unmarshall(&key.public[2..]).expect("TPMT_PUBLIC");
    let attributes = public.object_attributes();
    assert!(attributes.fixed_tpm() && attributes.fixed_parent() && attributes.sensitive_data_origin());
    assert!(attributes.sign_encrypt() && attributes.user_with_auth() && attributes.no_da());
    assert!(!attributes.restricted() && !attributes.decrypt() && !attributes.admin_with_policy());
    assert_ne!(key.public, swtpm.open().attestation_key().expect("ak"));
}

#[test]
fn each_kind_of_attestation_key_certifies_the_key_by_its_name() {
    let swtpm = Swtpm::start();
    let tools = Tools::new(&swtpm);
    for kind in [AkKind::EccP256, AkKind::Rsa2048, AkKind::EccP384] {
        let mut tpm = swtpm.open_with(|options| options.ak = AkSource::Template(kind));
        let (key, ak) = (tpm.tls_key().expect("key"), tpm.attestation_key().expect("ak"));
        let certified = tpm.certify_tls_key(&[9; 32]).expect("certification");
        drop(tpm);
        assert_eq!(certified.public.0, key.public);
        let attest = Attest::unmarshall(&certified.attest.0).expect("TPMS_ATTEST");
        assert_eq!(attest.extra_data().value(), [9; 32]);
        let AttestInfo::Certify { info } = attest.attested() else {
            panic!("not a certification")
        };
        let name = [&[0, 0x0b], digest(&SHA256, &key.public[2..]).as_ref()].concat();
        assert_eq!(info.name().value(), name);
        // Qualified name of a primary (Part 1, 26.5): its hierarchy's handle and its Name.
        let qualified = digest(&SHA256, &[&0x4000_000b_u32.to_be_bytes()[..], &name].concat());
        assert_eq!(info.qualified_name().value(), [&[0, 0x0b], qualified.as_ref()].concat());

        // The TPM itself takes it for signed by the attestation key.
        tools.write("ak.pub", &ak);
        tools.write("attest", &certified.attest.0);
        tools.write("signature", &certified.signature.0);
        let hash = if kind == AkKind::EccP384 { "sha384" } else { "sha256" };
        tools.make("tpm2_loadexternal", &["-C", "n", "-u", "ak.pub", "-c", "ak"]);
        let check = ["-c", "ak", "-g", hash, "-m", "attest", "-s", "signature"];
        tools.make("tpm2_verifysignature", &check);
        let mut changed = certified.attest.0.clone();
        changed[60] ^= 1;
        tools.write("attest", &changed);
        assert!(!tools.succeeds("tpm2_verifysignature", &check));
        tools.run("tpm2_flushcontext", &["-t"]);
    }
    assert_eq!(loaded(&swtpm), 0);
}
