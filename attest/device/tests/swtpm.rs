//! The device crate against a real software TPM. A machine without swtpm fails this test: a skip would prove nothing.

mod common;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use common::Swtpm;
use rempart_device::{QUOTED_PCRS, Tpm};
use tss_esapi::{
    Context,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{Attest, AttestInfo, Digest, EccPoint, Public, Signature},
    tcti_ldr::TctiNameConf,
    traits::UnMarshall,
};

#[test]
fn a_quote_is_signed_by_the_attestation_key_over_the_values_that_come_with_it() {
    let swtpm = Swtpm::start();
    let mut tpm = Tpm::open(&swtpm.tcti()).expect("open");
    let ak = Public::unmarshall(&tpm.attestation_key().expect("ak")[2..]).expect("TPMT_PUBLIC");
    let quoted = tpm.quote(&[7; 32]).expect("quote");

    let Signature::EcDsa(signature) = Signature::unmarshall(&quoted.signature).expect("TPMT_SIGNATURE") else {
        panic!("not ECDSA");
    };
    let Public::Ecc { unique, .. } = ak else {
        panic!("not ECC")
    };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&unique))
        .verify(
            &quoted.attest,
            &[fixed(signature.signature_r()), fixed(signature.signature_s())].concat(),
        )
        .expect("signed by the attestation key");

    let attest = Attest::unmarshall(&quoted.attest).expect("TPMS_ATTEST");
    assert_eq!(attest.extra_data().value(), [7; 32]);
    let AttestInfo::Quote { info } = attest.attested() else {
        panic!("not a quote")
    };
    let values: Vec<u8> = quoted.pcrs.values().flatten().copied().collect();
    assert_eq!(
        info.pcr_digest().value(),
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &values).as_ref()
    );
    assert!(quoted.pcrs.keys().copied().eq(QUOTED_PCRS));
}

/// Each power cut after a use of a key with dictionary-attack protection counts as a failed guess; three lock swtpm out.
#[test]
fn a_machine_that_lost_power_many_times_still_attests() {
    let mut swtpm = Swtpm::start();
    for _ in 0..6 {
        let mut tpm = Tpm::open(&swtpm.tcti()).expect("open");
        tpm.attestation_key().expect("ak");
        tpm.quote(&[7; 32]).expect("quote");
        drop(tpm);
        swtpm.cut_power();
    }
}

#[test]
fn keys_are_the_same_each_time_and_the_certificate_is_of_the_endorsement_key() {
    let swtpm = Swtpm::start();
    let mut tpm = Tpm::open(&swtpm.tcti()).expect("open");
    let ek = tpm.endorsement_key().expect("ek");
    let ak = tpm.attestation_key().expect("ak");
    let certificate = ek.certificate.clone().expect("swtpm_setup made one");
    let (rest, parsed) = x509_parser::parse_x509_certificate(&certificate).expect("X.509");
    assert!(rest.is_empty());
    let Public::Rsa { unique, .. } = Public::unmarshall(&ek.public[2..]).expect("TPMT_PUBLIC") else {
        panic!("not RSA");
    };
    let in_certificate = parsed.public_key().subject_public_key.data.as_ref();
    assert!(
        in_certificate.windows(256).any(|window| window == unique.value()),
        "certificate of another key"
    );
    drop(tpm);

    let mut again = Tpm::open(&swtpm.tcti()).expect("open again");
    // More rounds than a TPM has slots: everything is flushed.
    for _ in 0..5 {
        assert_eq!(again.endorsement_key().expect("ek"), ek);
        assert_eq!(again.attestation_key().expect("ak"), ak);
    }
}

#[test]
fn a_credential_for_this_key_opens_and_one_for_another_key_does_not() {
    let swtpm = Swtpm::start();
    let mut tpm = Tpm::open(&swtpm.tcti()).expect("open");
    let ek = tpm.endorsement_key().expect("ek").public;
    let ak = tpm.attestation_key().expect("ak");
    drop(tpm);
    let (blob, secret) = make_credential(&swtpm, &ek, &ak, b"credential");
    let (foreign_blob, foreign_secret) = make_credential(&swtpm, &ek, &ek, b"credential");

    let mut tpm = Tpm::open(&swtpm.tcti()).expect("open");
    for _ in 0..4 {
        assert_eq!(
            tpm.activate_credential(&blob, &secret).expect("activate"),
            b"credential"
        );
        assert!(tpm.activate_credential(&foreign_blob, &foreign_secret).is_err());
    }
    assert!(tpm.activate_credential(&blob[1..], &secret).is_err());
}

/// TPM2_MakeCredential for the key `name_of`, as the Verifier does it in software.
fn make_credential(swtpm: &Swtpm, ek: &[u8], name_of: &[u8], secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use std::str::FromStr;
    let mut context = Context::new(TctiNameConf::from_str(&swtpm.tcti()).expect("tcti")).expect("open");
    let load = |context: &mut Context, key: &[u8]| {
        let public = Public::unmarshall(&key[2..]).expect("TPMT_PUBLIC");
        context.load_external_public(public, Hierarchy::Null).expect("load")
    };
    let (ek, named) = (load(&mut context, ek), load(&mut context, name_of));
    let (_, name, _) = context.read_public(named).expect("name");
    let credential = Digest::try_from(secret.to_vec()).expect("short");
    let (blob, encrypted) = context
        .execute_with_session(None::<AuthSession>, |context| {
            context.make_credential(ek, credential, name)
        })
        .expect("make");
    let sized = |body: &[u8]| [&(body.len() as u16).to_be_bytes(), body].concat();
    (sized(blob.value()), sized(encrypted.value()))
}

fn fixed(number: &[u8]) -> Vec<u8> {
    [vec![0; 32 - number.len()], number.to_vec()].concat()
}

fn point(unique: &EccPoint) -> Vec<u8> {
    [vec![4], fixed(unique.x().value()), fixed(unique.y().value())].concat()
}
