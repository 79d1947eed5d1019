//! Reports that are not authentic, not fresh or not endorsed.

use super::*;

#[test]
fn a_vlek_does_not_pass_as_a_vcek_nor_the_reverse() {
    let own = Chip::new(Generation::Milan);
    let rented = Chip::of_provider(Generation::Milan, "cloud.test");
    assert_eq!(
        refused(&rented, rented.report_with(|d| d.keys = 0)),
        ["snp-signing-key"]
    );
    assert_eq!(refused(&own, own.report_with(|d| d.keys = 1 << 2)), ["snp-signing-key"]);
    assert_eq!(refused(&own, own.report_with(|d| d.keys = 7 << 2)), ["snp-signing-key"]);
}

#[test]
fn a_hidden_chip_key_is_refused() {
    let chip = Chip::new(Generation::Milan);
    assert_eq!(refused(&chip, chip.report_with(|d| d.keys = 2)), ["snp-mask-chip-key"]);
}

#[test]
fn a_key_endorsed_for_something_else_is_refused_by_what_differs() {
    let chip = Chip::new(Generation::Milan);
    assert_eq!(
        refused(&chip, chip.report_with(|d| d.chip_id.0[63] ^= 1)),
        ["snp-chip-id"]
    );
    for byte in [0, 1, 2, 3, 4, 5, 6, 7] {
        let report = chip.report_with(|d| d.reported_tcb.0[byte] ^= 1);
        assert_eq!(refused(&chip, report), ["snp-tcb-endorsed"], "byte {byte}");
    }
    assert_eq!(
        refused(&chip, chip.report_with(|d| d.cpuid = [0x19, 0x11, 1])),
        ["snp-generation"]
    );
    assert_eq!(
        refused(&chip, chip.report_with(|d| d.cpuid = [0x1b, 0, 0])),
        ["snp-generation"]
    );
}

#[test]
fn what_was_not_signed_by_the_chip_is_refused() {
    let (chip, other) = (Chip::new(Generation::Milan), Chip::new(Generation::Milan));
    // Each signed byte that no other check looks at: REPORT_ID and reserved ones.
    for at in [0x140, 0x18b, 0x29f, 0x2a0, 0x2e8] {
        let mut report = chip.report(&REPORT_DATA);
        report[at] ^= 1;
        assert_eq!(refused(&chip, report), ["snp-signature"], "{at:#x}");
    }
    let foreign = other.report_with(|d| d.chip_id = chip.chip_id);
    assert_eq!(refused(&chip, foreign), ["snp-signature"]);
}

#[test]
fn a_report_for_another_exchange_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let other = chip.report(&Fixed([1; 64]));
    assert_eq!(refused(&chip, other), ["tee-report-data"]);
    let half = chip.report_with(|d| d.report_data.0[63] ^= 1);
    assert_eq!(refused(&chip, half), ["tee-report-data"], "all 64 bytes count");
}

#[test]
fn short_and_long_reports_are_refused() {
    let chip = Chip::new(Generation::Milan);
    let report = chip.report(&REPORT_DATA);
    assert_eq!(refused(&chip, report[..LEN - 1].to_vec()), ["snp-report"]);
    assert_eq!(refused(&chip, [report.as_slice(), &[0]].concat()), ["snp-report"]);
    assert_eq!(refused(&chip, vec![]), ["snp-report"]);
}

#[test]
fn everything_that_fails_is_reported_together() {
    let chip = Chip::new(Generation::Milan);
    let mut report = chip.report_with(|d| {
        d.chip_id.0[0] ^= 1;
        d.report_data.0[0] ^= 1;
    });
    report[0x140] ^= 1;
    assert_eq!(
        refused(&chip, report),
        ["snp-chip-id", "snp-signature", "tee-report-data"]
    );
}

#[test]
fn without_an_endorsement_or_with_one_that_has_lapsed_nothing_counts() {
    let chip = Chip::new(Generation::Milan);
    let report = chip.report(&REPORT_DATA);
    assert_eq!(
        with(&Endorsements::default(), report.clone()).expect_err("refused"),
        ["snp-endorsement"]
    );
    let why = Finding::new("snp-revoked", "verifier", "revoked", "");
    let endorsements = Endorsements {
        snp: Vek::Refused(why),
        ..Endorsements::default()
    };
    assert_eq!(
        with(&endorsements, report.clone()).expect_err("refused"),
        ["snp-revoked"]
    );
    let names = tee::verify(
        "demo-1",
        &evidence(report),
        &REPORT_DATA,
        &[],
        &chip.endorsements(NOW),
        NOW + 31 * 86_400,
    );
    let names: Vec<_> = names.expect_err("refused").into_iter().map(|f| f.check).collect();
    assert_eq!(names, ["snp-endorsement-lapsed"]);
}
