//! Signatures made by systemd-measure 257 (tests/fixtures/pcrsig).

use super::*;

const FILE: &str = include_str!("../../../../../../tests/fixtures/pcrsig/signatures.json");
const BY_OTHER: &str = include_str!("../../../../../../tests/fixtures/pcrsig/other.json");
const RELEASE: &str = include_str!("../../../../../../tests/fixtures/pcrsig/release.pub");
const OTHER: &str = include_str!("../../../../../../tests/fixtures/pcrsig/other.pub");
/// Lines `BANK PHASES VALUE` of systemd-measure calculate.
const VALUES: &str = include_str!("../../../../../../tests/fixtures/pcrsig/pcrs");

fn key() -> ReleaseKey {
    ReleaseKey::from_pem(RELEASE).expect("key")
}

fn values() -> Vec<PcrValue> {
    let value = |line: &str| line.rsplit(' ').next().and_then(PcrValue::from_hex);
    VALUES.lines().map(|line| value(line).expect("value")).collect()
}

fn verify(file: &str, key: &ReleaseKey, value: &PcrValue) -> Result<(), PcrSignatureError> {
    PcrSignatures::parse(file.as_bytes())?.verify(key, 11, value)
}

#[test]
fn what_systemd_measure_signed_is_accepted_in_both_banks_and_every_phase() {
    assert_eq!(values().len(), 8);
    for value in values() {
        assert_eq!(verify(FILE, &key(), &value), Ok(()), "{value}");
    }
}

#[test]
fn another_value_another_register_and_another_key_are_not() {
    let value = values()[3];
    let unsigned = Bank::Sha256.hash(&[b"another image"]);
    assert_eq!(
        verify(FILE, &key(), &unsigned),
        Err(PcrSignatureError::OtherValue(unsigned))
    );
    let signatures = PcrSignatures::parse(FILE.as_bytes()).expect("reads");
    let as_4 = signatures.verify(&key(), 4, &value);
    assert_eq!(
        as_4,
        Err(PcrSignatureError::OtherValue(value)),
        "a signature for 11 says nothing of 4"
    );
    let other = ReleaseKey::from_pem(OTHER).expect("key");
    assert_eq!(
        verify(FILE, &other, &value),
        Err(PcrSignatureError::OtherKey(other.fingerprint()))
    );
    assert_eq!(verify(BY_OTHER, &other, &value), Ok(()));
}

#[test]
fn a_signature_that_only_claims_the_key_is_forged() {
    // The other key's signatures over the same values, relabelled with the release key's fingerprint.
    let other = ReleaseKey::from_pem(OTHER).expect("key");
    let relabelled = BY_OTHER.replace(&other.fingerprint().to_string(), &key().fingerprint().to_string());
    assert_ne!(relabelled, BY_OTHER);
    for value in values() {
        assert_eq!(
            verify(&relabelled, &key(), &value),
            Err(PcrSignatureError::Forged(value))
        );
    }
}

#[test]
fn a_policy_digest_in_the_file_is_not_believed() {
    // Signed digest of one phase, put beside another phase's value: the digest is computed from the quoted value.
    let file: serde_json::Value = serde_json::from_str(FILE).expect("json");
    let mut swapped = file.clone();
    swapped["sha256"][3]["sig"] = file["sha256"][0]["sig"].clone();
    let value = values()[3];
    let refused = verify(&swapped.to_string(), &key(), &value);
    assert_eq!(refused, Err(PcrSignatureError::Forged(value)));
    swapped["sha256"][3]["pol"] = file["sha256"][0]["pol"].clone();
    let refused = verify(&swapped.to_string(), &key(), &value);
    assert_eq!(refused, Err(PcrSignatureError::OtherValue(value)));
}

#[test]
fn a_selection_of_more_registers_does_not_count_for_one() {
    let mut file: serde_json::Value = serde_json::from_str(FILE).expect("json");
    file["sha256"][3]["pcrs"] = serde_json::json!([11, 12]);
    let value = values()[3];
    assert_eq!(
        verify(&file.to_string(), &key(), &value),
        Err(PcrSignatureError::OtherValue(value))
    );
}

#[test]
fn banks_do_not_stand_in_for_each_other() {
    let mut file: serde_json::Value = serde_json::from_str(FILE).expect("json");
    file.as_object_mut().expect("map").remove("sha384");
    let value = values()[7];
    assert_eq!(value.bank(), Bank::Sha384);
    assert_eq!(
        verify(&file.to_string(), &key(), &value),
        Err(PcrSignatureError::OtherBank(Bank::Sha384))
    );
}

#[test]
fn what_is_absent_too_large_or_rubbish_is_refused_by_reason() {
    let refused = |bytes: &[u8]| PcrSignatures::parse(bytes).expect_err("refused");
    assert_eq!(refused(b""), PcrSignatureError::Absent);
    for rubbish in [
        "null",
        "{",
        "7",
        "{\"sha256\":[{}]}",
        "{\"sha256\":[{\"pcrs\":[11],\"pkfp\":\"00\",\"pol\":\"\",\"sig\":\"\"}]}",
    ] {
        assert!(
            matches!(refused(rubbish.as_bytes()), PcrSignatureError::Malformed(_)),
            "{rubbish}"
        );
    }
    let large = vec![b' '; limits::PCR_SIGNATURES + 1];
    assert!(matches!(
        refused(&large),
        PcrSignatureError::TooLarge { what: "bytes", .. }
    ));
    let entry = "{\"pcrs\":[11],\"pkfp\":\"Z\",\"pol\":\"Z\",\"sig\":\"\"},".replace('Z', &"00".repeat(32));
    let many = format!(
        "{{\"sha256\":[{}]}}",
        entry.repeat(limits::PCR_SIGNATURE_ENTRIES + 1).trim_end_matches(',')
    );
    assert!(matches!(
        refused(many.as_bytes()),
        PcrSignatureError::TooLarge { what: "entries", .. }
    ));
}

#[test]
fn a_key_that_systemd_could_not_have_signed_with_is_refused() {
    const EC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0000\n-----END PUBLIC KEY-----\n";
    for text in [
        "",
        "rubbish",
        EC,
        &RELEASE.replace("PUBLIC KEY", "PRIVATE KEY"),
        &format!("{RELEASE}{OTHER}"),
    ] {
        assert!(ReleaseKey::from_pem(text).is_err(), "{text}");
    }
}
