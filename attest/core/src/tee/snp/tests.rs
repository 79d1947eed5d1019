//! Negative cases of verify and appraise, by name. Each is a report that a chip really signed, or a chain that a root really
//! signed, wrong in one place; the unchanged one is affirmed.

use std::sync::Arc;

use super::bits::{Abi, SigningKey, guest, platform};
use super::chain::{Certificates, verify as verify_chain};
use super::*;
use crate::bytes::Fixed;
use crate::evidence::TeeEvidence;
use crate::tee::testing::NOW;
use crate::tee::testing::snp::*;
use crate::tee::{self, Endorsements, Roots, Sections, TeeKind, TeeProvider, Vek, VerifiedTee};

fn evidence(report: Vec<u8>) -> TeeEvidence {
    TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::ConfigfsTsm,
        report: report.into(),
        certificates: vec![].into(),
        runtime_data: vec![].into(),
    }
}

fn verified(chip: &Chip, report: Vec<u8>) -> Result<VerifiedTee, Vec<String>> {
    with(&chip.endorsements(NOW), report)
}

fn with(endorsements: &Endorsements, report: Vec<u8>) -> Result<VerifiedTee, Vec<String>> {
    let names = |findings: Vec<Finding>| findings.into_iter().map(|f| f.check).collect();
    tee::verify("demo-1", &evidence(report), &REPORT_DATA, &[], endorsements, NOW).map_err(names)
}

fn refused(chip: &Chip, report: Vec<u8>) -> Vec<String> {
    verified(chip, report).expect_err("refused")
}

fn judged(chip: &Chip, report: Vec<u8>, policy: &Policy) -> Vec<String> {
    let tee = verified(chip, report).expect("authentic");
    let sections = Sections {
        snp: Some(policy),
        tdx: None,
    };
    let findings = tee::appraise("demo-1", Some(&tee), sections);
    findings.into_iter().map(|f| f.check).collect()
}

#[test]
fn an_honest_machine_of_each_generation_and_kind_of_key_is_affirmed() {
    for generation in Generation::ALL {
        for version in [2, 3, 5] {
            let chip = Chip::new(generation);
            let policy = Policy {
                require_alias_check: version > 2,
                ..policy(generation)
            };
            let report = chip.report_with(|d| d.version = version);
            assert_eq!(judged(&chip, report, &policy), [""; 0], "{generation} {version}");
        }
        let rented = Chip::of_provider(generation, "cloud.test");
        let policy = Policy {
            allow_vlek: true,
            vlek_providers: vec!["cloud.test".into()],
            ..policy(generation)
        };
        assert_eq!(judged(&rented, rented.report(&REPORT_DATA), &policy), [""; 0]);
    }
}

/// A change to an honest report that the chip signs.
type Change = fn(&mut Draft);
/// One of its TCBs.
type Field = fn(&mut Draft) -> &mut Tcb;

#[test]
fn each_thing_that_a_report_must_not_say_is_refused_by_its_own_name() {
    let chip = Chip::new(Generation::Milan);
    let cases: [(&str, Change, &str); 24] = [
        ("debug", |d| d.policy |= guest::DEBUG, "snp-debug"),
        (
            "migration agent allowed",
            |d| d.policy |= guest::MIGRATE_MA,
            "snp-migration-agent",
        ),
        (
            "migration agent there",
            |d| d.report_id_ma = Fixed([1; 32]),
            "snp-migration-agent",
        ),
        ("vmpl 1", |d| d.vmpl = 1, "snp-vmpl"),
        ("vmpl 2", |d| d.vmpl = 2, "snp-vmpl"),
        ("vmpl 3", |d| d.vmpl = 3, "snp-vmpl"),
        ("abi demanded too low", |d| d.policy -= 1, "snp-abi"),
        ("cxl allowed", |d| d.policy |= guest::CXL_ALLOW, "snp-cxl"),
        (
            "several sockets",
            |d| d.policy &= !guest::SINGLE_SOCKET,
            "snp-single-socket",
        ),
        (
            "alias check off",
            |d| d.platform &= !platform::ALIAS_CHECK,
            "snp-alias-check",
        ),
        (
            "ciphertext seen now",
            |d| d.platform &= !platform::CIPHERTEXT_HIDING,
            "snp-ciphertext-hiding",
        ),
        (
            "ciphertext seen tomorrow",
            |d| d.policy &= !guest::CIPHERTEXT_HIDING,
            "snp-ciphertext-hiding",
        ),
        ("power seen now", |d| d.platform &= !platform::RAPL_DIS, "snp-rapl"),
        ("power seen tomorrow", |d| d.policy &= !guest::RAPL_DIS, "snp-rapl"),
        ("aes 128", |d| d.policy &= !guest::MEM_AES_256_XTS, "snp-aes-256-xts"),
        ("no ecc", |d| d.platform &= !platform::ECC, "snp-ecc"),
        ("pages move", |d| d.policy &= !guest::PAGE_SWAP_DISABLE, "snp-page-swap"),
        ("guest svn", |d| d.guest_svn = 4, "snp-guest-svn"),
        ("measurement", |d| d.measurement.0[0] ^= 1, "snp-measurement"),
        ("family", |d| d.family_id.0[0] ^= 1, "snp-family-id"),
        ("image", |d| d.image_id.0[0] ^= 1, "snp-image-id"),
        ("id key", |d| d.id_key.0[0] ^= 1, "snp-id-key"),
        ("author key", |d| d.author_key.0[0] ^= 1, "snp-author-key"),
        ("host data", |d| d.host_data.0[0] ^= 1, "snp-host-data"),
    ];
    let base = |d: &mut Draft| {
        d.keys |= 1;
        d.policy |= guest::SINGLE_SOCKET | guest::MEM_AES_256_XTS | guest::RAPL_DIS;
        d.policy |= guest::CIPHERTEXT_HIDING | guest::PAGE_SWAP_DISABLE;
        d.platform |= platform::CIPHERTEXT_HIDING | platform::RAPL_DIS;
    };
    let honest = Draft::default();
    let strict = Policy {
        min_abi: Some(Abi { major: 1, minor: 55 }),
        require_single_socket: true,
        require_ciphertext_hiding: true,
        require_rapl_disabled: true,
        require_aes_256_xts: true,
        require_ecc: true,
        require_page_swap_disabled: true,
        min_guest_svn: 5,
        family_ids: vec![honest.family_id],
        image_ids: vec![honest.image_id],
        id_keys: vec![honest.id_key],
        author_keys: vec![honest.author_key],
        host_data: vec![honest.host_data],
        chips: vec![chip.chip_id],
        ..policy(Generation::Milan)
    };
    assert_eq!(judged(&chip, chip.report_with(base), &strict), [""; 0]);
    for (name, change, check) in cases {
        let report = chip.report_with(|d| {
            base(d);
            change(d);
        });
        assert_eq!(judged(&chip, report, &strict), [check], "{name}");
    }
    let unmeant = chip.report_with(|d| {
        base(d);
        d.keys &= !1;
    });
    assert_eq!(
        judged(&chip, unmeant, &strict),
        ["snp-author-key"],
        "AUTHOR_KEY_EN is off"
    );
}

#[test]
fn what_is_wanted_by_default_needs_no_word_in_the_policy() {
    let chip = Chip::new(Generation::Milan);
    let minimum = policy(Generation::Milan).minimum;
    let plain = Policy {
        accept_file_provider: true,
        ..Policy::new(vec![MEASUREMENT], minimum)
    };
    assert_eq!(judged(&chip, chip.report(&REPORT_DATA), &plain), ["snp-smt"]);
    let old = chip.report_with(|d| d.version = 2);
    assert_eq!(
        judged(&chip, old, &plain),
        ["snp-smt", "snp-alias-check"],
        "version 2 cannot say it"
    );
    let off = chip.report_with(|d| {
        d.policy &= !guest::SMT;
        d.platform &= !platform::SMT;
    });
    assert_eq!(judged(&chip, off, &plain), [""; 0]);
}

#[test]
fn each_byte_of_each_tcb_that_is_too_low_is_refused_by_its_own_name() {
    for generation in Generation::ALL {
        let chip = Chip::new(generation);
        let lowered: [fn(&mut Levels); 5] = [
            |l| l.bootloader -= 1,
            |l| l.tee -= 1,
            |l| l.snp -= 1,
            |l| l.microcode -= 1,
            |l| l.fmc -= 1,
        ];
        let count = if generation == Generation::Turin { 5 } else { 4 };
        let levels = Levels {
            fmc: u8::from(generation == Generation::Turin),
            ..LEVELS
        };
        let judge_all = Policy {
            allow_provisional_firmware: true,
            minimum: [(generation, Minimum::all(levels))].into(),
            ..policy(generation)
        };
        // The key itself must be endorsed for a lower reported TCB: a chip with such firmware.
        for lower in lowered.into_iter().take(count) {
            let mut low = levels;
            lower(&mut low);
            let old = Chip::endorsed(Arc::new(Pki::new(generation)), |claims| claims.levels = low);
            let (low, high) = (Tcb::from_levels(low, generation), Tcb::from_levels(levels, generation));
            let set: [(&str, Field); 3] = [
                ("snp-tcb-committed", |d| &mut d.committed_tcb),
                ("snp-tcb-launch", |d| &mut d.launch_tcb),
                ("snp-tcb-current", |d| &mut d.current_tcb),
            ];
            let all = |d: &mut Draft, tcb| {
                (d.reported_tcb, d.committed_tcb) = (tcb, tcb);
                (d.launch_tcb, d.current_tcb) = (tcb, tcb);
            };
            let report = old.report_with(|d| {
                all(d, high);
                d.reported_tcb = low;
            });
            assert_eq!(
                judged(&old, report, &judge_all),
                ["snp-tcb-reported"],
                "{generation} {low}"
            );
            let new = Chip::endorsed(Arc::new(Pki::new(generation)), |claims| claims.levels = levels);
            for (check, field) in set {
                let report = new.report_with(|d| {
                    all(d, high);
                    *field(d) = low;
                });
                assert_eq!(judged(&new, report, &judge_all), [check], "{generation} {low}");
            }
        }
        assert_eq!(judged(&chip, chip.report(&REPORT_DATA), &policy(generation)), [""; 0]);
    }
}

#[test]
fn provisional_firmware_is_refused() {
    let chip = Chip::new(Generation::Milan);
    let policy = policy(Generation::Milan);
    let newer = |d: &mut Draft| d.current_tcb.0[7] += 1;
    let cases: [(&str, Change, &str); 5] = [
        ("build", |d| d.current_firmware[0] += 1, "snp-provisional-firmware"),
        ("abi minor", |d| d.current_firmware[1] += 1, "snp-provisional-firmware"),
        (
            "committed behind",
            |d| d.committed_firmware[1] -= 1,
            "snp-provisional-firmware",
        ),
        ("current above committed", newer, "snp-tcb-uncommitted"),
        (
            "launched above committed",
            |d| d.launch_tcb.0[6] += 1,
            "snp-tcb-uncommitted",
        ),
    ];
    for (name, change, check) in cases {
        let report = chip.report_with(change);
        assert_eq!(judged(&chip, report.clone(), &policy), [check], "{name}");
        let allowed = Policy {
            allow_provisional_firmware: true,
            ..policy.clone()
        };
        assert_eq!(judged(&chip, report, &allowed), [""; 0], "{name}");
    }
}

#[test]
fn a_generation_chip_or_mitigation_that_is_not_named_is_refused() {
    let chip = Chip::new(Generation::Genoa);
    let report = || chip.report(&REPORT_DATA);
    assert_eq!(
        judged(&chip, report(), &policy(Generation::Milan)),
        ["snp-generation-refused"]
    );
    let listed = Policy {
        chips: vec![Fixed([1; 64])],
        ..policy(Generation::Genoa)
    };
    assert_eq!(judged(&chip, report(), &listed), ["snp-chip"]);
    let mitigated = Policy {
        mitigations: 0b11,
        ..policy(Generation::Genoa)
    };
    assert_eq!(
        judged(&chip, report(), &mitigated),
        ["snp-mitigations"],
        "version 3 cannot say it"
    );
    for (at_launch, now, good) in [(3, 3, true), (7, 3, true), (1, 3, false), (3, 2, false)] {
        let report = chip.report_with(|d| {
            d.version = 5;
            d.mitigations = (at_launch, now);
        });
        assert_eq!(judged(&chip, report, &mitigated).is_empty(), good, "{at_launch} {now}");
    }
}

#[test]
fn a_cloud_providers_key_counts_only_where_the_policy_says_so() {
    let rented = Chip::of_provider(Generation::Milan, "cloud.test");
    let report = || rented.report(&REPORT_DATA);
    assert_eq!(judged(&rented, report(), &policy(Generation::Milan)), ["snp-vlek"]);
    let other = Policy {
        allow_vlek: true,
        vlek_providers: vec!["other.test".into()],
        ..policy(Generation::Milan)
    };
    assert_eq!(judged(&rented, report(), &other), ["snp-vlek"]);
    let by_chip = Policy {
        allow_vlek: true,
        chips: vec![rented.chip_id],
        ..policy(Generation::Milan)
    };
    assert_eq!(
        judged(&rented, report(), &by_chip),
        ["snp-chip"],
        "nobody vouches for CHIP_ID under a VLEK"
    );
}

#[test]
fn a_test_root_a_file_and_an_unchecked_chain_count_only_where_the_policy_says_so() {
    let chip = Chip::new(Generation::Milan);
    let production = Policy {
        accept_file_provider: false,
        ..policy(Generation::Milan)
    };
    assert_eq!(judged(&chip, chip.report(&REPORT_DATA), &production), ["tee-test-root"]);
    let unchecked = chip.verified_with(None, &chip.pki().roots(), NOW).expect("chain");
    let endorsements = Endorsements {
        snp: Vek::Verified(Arc::new(unchecked)),
        ..Endorsements::default()
    };
    let mut tee = with(&endorsements, chip.report(&REPORT_DATA)).expect("authentic");
    let judge = |tee: &VerifiedTee, policy: &Policy| {
        let sections = Sections {
            snp: Some(policy),
            tdx: None,
        };
        let findings = tee::appraise("demo-1", Some(tee), sections);
        findings.into_iter().map(|f| f.check).collect::<Vec<_>>()
    };
    let policy = policy(Generation::Milan);
    assert_eq!(judge(&tee, &policy), ["tee-crl-missing"]);
    let offline = Policy {
        allow_unchecked_revocation: true,
        ..policy.clone()
    };
    assert_eq!(judge(&tee, &offline), [""; 0]);
    tee.provider = TeeProvider::File;
    assert_eq!(judge(&tee, &offline), [""; 0]);
    let offline_production = Policy {
        accept_file_provider: false,
        ..offline.clone()
    };
    assert_eq!(judge(&tee, &offline_production), ["tee-test-root", "tee-file-provider"]);
    tee.origin = tee::Origin::Vendor;
    assert_eq!(
        judge(&tee, &offline),
        ["tee-file-provider"],
        "a vendor's report out of a file is somebody else's"
    );
}

#[test]
fn a_section_demands_its_environment() {
    let policy = policy(Generation::Milan);
    let sections = Sections {
        snp: Some(&policy),
        tdx: None,
    };
    let findings = tee::appraise("demo-1", None, sections);
    assert_eq!(findings.iter().map(|f| f.check.as_str()).collect::<Vec<_>>(), ["tee"]);
    assert!(tee::appraise("demo-1", None, Sections::default()).is_empty());
}

mod chains;
mod reports;
