//! Predictions against a real boot. The image is far too large to be a fixture, so the whole comparison needs one beside its log:
//! REMPART_UKI=FILE REMPART_PCRS=FILE (lines "INDEX HEX") cargo test -- --ignored a_real_boot

use super::*;
use crate::pcr::{JUDGED, PcrValue, Pcrs};

fn options() -> Options {
    Options {
        name: "test".into(),
        ..Options::default()
    }
}

#[test]
#[ignore = "needs an image and the registers of its boot"]
fn a_real_boot_has_the_predicted_registers() {
    let file = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"));
    let image = std::fs::read(file("REMPART_UKI")).expect("image");
    let recorded = std::fs::read_to_string(file("REMPART_PCRS")).expect("registers");
    let values = recorded.lines().filter_map(|l| l.split_once(' ')).map(|(index, hex)| {
        (
            index.parse().expect("index"),
            PcrValue::from_hex(&hex.to_lowercase()).expect("hex"),
        )
    });
    let pcrs = Pcrs::collect(Bank::Sha256, values).expect("each register once");
    let policy = predict(&image, &options()).expect("predicted");
    for pcr in JUDGED {
        let found = pcrs.value(pcr).expect("register");
        assert!(
            policy.images[0].accepted(pcr).contains(&found),
            "PCR {pcr} is {found}, predicted {:?}",
            policy.images[0].accepted(pcr)
        );
    }
}

#[test]
fn registers_2_and_3_of_the_recorded_boot_hold_a_separator_alone_and_13_and_14_nothing() {
    let recorded = crate::testing::ORDINARY.pcrs();
    for pcr in [2, 3] {
        assert_eq!(recorded.value(pcr), Some(registers::separator_alone(Bank::Sha256)));
    }
    for pcr in [12, 13, 14] {
        assert_eq!(recorded.value(pcr), Some(Bank::Sha256.zero()));
    }
}

fn register_7(bank: Bank) -> PcrValue {
    registers::secure_boot_off(bank)
}

#[test]
fn register_7_of_the_recorded_boot_is_the_computed_one() {
    let pcrs = include_str!("../../../../../tests/fixtures/boot/pcrs");
    let recorded = pcrs
        .lines()
        .find_map(|l| l.strip_prefix("7 "))
        .and_then(PcrValue::from_hex);
    assert_eq!(Some(register_7(Bank::Sha256)), recorded);
}

#[test]
fn what_is_no_image_is_refused_by_reason() {
    assert!(matches!(predict(b"", &options()), Err(PredictError::Pe(_))));
    assert!(matches!(
        predict(&[0x4d, 0x5a, 0, 0], &options()),
        Err(PredictError::Pe(_))
    ));
    let unknown = Options {
        accept: vec!["everything".into()],
        ..options()
    };
    assert_eq!(
        predict(b"", &unknown),
        Err(PredictError::UnknownRisk("everything".into()))
    );
    let phases = |words: &[&str]| Options {
        phases: words.iter().map(|w| (*w).to_owned()).collect(),
        ..options()
    };
    assert_eq!(predict(b"", &phases(&[])), Err(PredictError::NoPhase));
    let unknown = phases(&["ready", "final"]);
    assert_eq!(predict(b"", &unknown), Err(PredictError::UnknownPhase("final".into())));
}
