//! Negative cases of verify and appraise, by name: quotes that a platform really signed, wrong in one place.

use std::sync::Arc;

use super::*;
use crate::bytes::Fixed;
use crate::evidence::TeeEvidence;
use crate::finding::Finding;
use crate::tee::testing::NOW;
use crate::tee::testing::snp::REPORT_DATA;
use crate::tee::testing::tdx::{CA_SERIAL, Draft, PCK_SERIAL, Pki, Platform, policy, qe_identity, tcb_info};
use crate::tee::{self, Endorsements, Roots, Sections, TeeKind, TeeProvider, VerifiedTee};

fn platform() -> (Arc<Pki>, Platform) {
    let pki = Pki::generate();
    (pki.clone(), Platform::new(pki))
}

fn names(findings: Vec<Finding>) -> Vec<String> {
    findings.into_iter().map(|f| f.check).collect()
}

fn with(endorsements: &Endorsements, quote: Vec<u8>) -> Result<VerifiedTee, Vec<String>> {
    let evidence = TeeEvidence {
        kind: TeeKind::Tdx,
        provider: TeeProvider::ConfigfsTsm,
        report: quote.into(),
        certificates: vec![].into(),
        runtime_data: vec![].into(),
    };
    tee::verify("demo-1", &evidence, &REPORT_DATA, &[], endorsements, NOW).map_err(names)
}

fn refused(platform: &Platform, quote: Vec<u8>) -> Vec<String> {
    with(&platform.endorsements(), quote).expect_err("refused")
}

fn judge(tee: &VerifiedTee, policy: &Policy) -> Vec<String> {
    let sections = Sections {
        snp: None,
        tdx: Some(policy),
    };
    names(tee::appraise("demo-1", Some(tee), sections))
}

fn judged(platform: &Platform, quote: Vec<u8>, policy: &Policy) -> Vec<String> {
    judge(&with(&platform.endorsements(), quote).expect("authentic"), policy)
}

/// With other collateral than the platform's own.
fn knowing(pki: &Pki, collateral: Collateral) -> Endorsements {
    Endorsements {
        roots: Arc::new(pki.roots()),
        tdx: Arc::new(collateral),
        ..Endorsements::default()
    }
}

#[test]
fn an_honest_machine_is_affirmed_in_each_form_of_the_quote() {
    let (_, platform) = platform();
    let forms: [fn(&mut Draft); 3] = [
        |_| {},
        |d| d.version = 5,
        |d| {
            d.version = 5;
            d.mr_service_td = Some(Fixed::ZERO);
        },
    ];
    for form in forms {
        assert_eq!(judged(&platform, platform.quote_with(form), &policy()), [""; 0]);
    }
    let mut padded = platform.quote(&REPORT_DATA);
    padded.extend([0; 100]);
    assert_eq!(
        judged(&platform, padded, &policy()),
        [""; 0],
        "zeros behind it are a driver's buffer"
    );
}

#[test]
fn each_thing_that_a_quote_must_not_say_is_refused_by_its_own_name() {
    let (_, platform) = platform();
    let draft = Draft::default();
    let strict = Policy {
        rtmr0: vec![draft.rtmr[0]],
        rtmr1: vec![draft.rtmr[1]],
        rtmr2: vec![draft.rtmr[2]],
        rtmr3: vec![draft.rtmr[3]],
        mrconfigid: vec![draft.mr_config_id],
        mrowner: vec![draft.mr_owner],
        mrownerconfig: vec![draft.mr_owner_config],
        mrseam: vec![draft.mr_seam],
        xfam_allowed: Some(draft.xfam),
        min_tee_tcb_svn: Some(draft.tee_tcb_svn),
        ..policy()
    };
    assert_eq!(judged(&platform, platform.quote(&REPORT_DATA), &strict), [""; 0]);
    type Case = (&'static str, fn(&mut Draft), &'static str);
    let cases: [Case; 19] = [
        ("debug", |d| d.td_attributes |= 1, "tdx-debug"),
        ("another untrusted bit", |d| d.td_attributes |= 1 << 4, "tdx-debug"),
        ("an unknown attribute", |d| d.td_attributes |= 1 << 40, "tdx-attributes"),
        ("page faults", |d| d.td_attributes &= !(1 << 28), "tdx-sept-ve-disable"),
        ("migratable", |d| d.td_attributes |= 1 << 29, "tdx-migratable"),
        ("perfmon", |d| d.td_attributes |= 1 << 63, "tdx-perfmon"),
        ("a feature", |d| d.xfam |= 1 << 20, "tdx-xfam"),
        ("module in debug", |d| d.seam_attributes = 1, "tdx-seam-attributes"),
        ("svn", |d| d.tee_tcb_svn.0[5] -= 1, "tdx-tee-tcb-svn"),
        ("mrtd", |d| d.mr_td.0[0] ^= 1, "tdx-mrtd"),
        ("rtmr 0", |d| d.rtmr[0].0[0] ^= 1, "tdx-rtmr0"),
        ("rtmr 1", |d| d.rtmr[1].0[0] ^= 1, "tdx-rtmr1"),
        ("rtmr 2", |d| d.rtmr[2].0[0] ^= 1, "tdx-rtmr2"),
        ("rtmr 3", |d| d.rtmr[3].0[0] ^= 1, "tdx-rtmr3"),
        ("config", |d| d.mr_config_id.0[0] ^= 1, "tdx-mrconfigid"),
        ("owner", |d| d.mr_owner.0[0] ^= 1, "tdx-mrowner"),
        ("owner's config", |d| d.mr_owner_config.0[0] ^= 1, "tdx-mrownerconfig"),
        ("module", |d| d.mr_seam.0[0] ^= 1, "tdx-mrseam"),
        ("module's signer", |d| d.mr_signer_seam.0[0] ^= 1, "tdx-mrsignerseam"),
    ];
    // Intel's statement does not describe modules of others or in debug: a Verifier without one, so that appraisal is asked.
    let unchecked = Policy {
        allow_unchecked_tcb: true,
        ..strict
    };
    let (pki, platform) = self::platform();
    let lists = Collateral {
        crls: pki.crls(NOW, &[], &[]),
        ..Collateral::default()
    };
    let endorsements = knowing(&pki, lists);
    for (name, change, check) in cases {
        let tee = with(&endorsements, platform.quote_with(change)).expect("authentic");
        assert_eq!(judge(&tee, &unchecked), [check], "{name}");
    }
    let bound = platform.quote_with(|d| {
        d.version = 5;
        d.mr_service_td = Some(Fixed([1; 48]));
    });
    let tee = with(&endorsements, bound).expect("authentic");
    assert_eq!(judge(&tee, &unchecked), ["tdx-migratable"], "a service TD is bound");
}

#[test]
fn a_quote_for_another_exchange_is_refused() {
    let (_, platform) = platform();
    assert_eq!(refused(&platform, platform.quote(&Fixed([1; 64]))), ["tee-report-data"]);
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let (_, platform) = platform();
    let quote = platform.quote(&REPORT_DATA);
    let change = |at: usize| {
        let mut quote = quote.clone();
        quote[at] ^= 1;
        refused(&platform, quote)
    };
    // Header (user data), body (MRTD), signature, attestation key, QE report, its signature, its data.
    let data = 48 + 584 + 4;
    assert_eq!(change(40), ["tdx-signature"]);
    assert_eq!(change(48 + 136), ["tdx-signature"]);
    assert_eq!(change(data), ["tdx-signature"]);
    assert_eq!(change(data + 64), ["tdx-qe-report-data", "tdx-signature"]);
    assert_eq!(change(data + 128 + 6), ["tdx-qe-signature"]);
    assert_eq!(change(data + 128 + 6 + 384), ["tdx-qe-signature"]);
    assert_eq!(change(data + 128 + 6 + 384 + 64 + 2), ["tdx-qe-report-data"]);
}

#[test]
fn a_quoting_enclave_that_is_not_intels_or_commits_to_another_key_is_refused() {
    let (_, platform) = platform();
    type Case = (fn(&mut Draft), &'static [&'static str]);
    let cases: [Case; 5] = [
        (|d| d.qe_report_data = Some(Fixed([1; 32])), &["tdx-qe-report-data"]),
        (|d| d.qe_signer.0[0] ^= 1, &["tdx-qe", "tdx-qe-identity"]),
        (|d| d.qe_product = 1, &["tdx-qe", "tdx-qe-identity"]),
        (|d| d.qe_attributes = 2, &["tdx-qe", "tdx-qe-identity"]),
        (|d| d.qe_svn = 3, &["tdx-qe-identity"]),
    ];
    for (change, checks) in cases {
        assert_eq!(refused(&platform, platform.quote_with(change)), checks);
    }
}

#[test]
fn a_pck_by_another_root_is_refused() {
    let (_, platform) = platform();
    let quote = platform.quote(&REPORT_DATA);
    let (other, _) = self::platform();
    let lists = Collateral::default();
    assert_eq!(
        with(&knowing(&other, lists), quote.clone()).expect_err("refused"),
        ["tdx-root"]
    );
    assert_eq!(
        with(&Endorsements::default(), quote).expect_err("refused"),
        ["tdx-root"]
    );
}

#[test]
fn a_root_that_vouches_for_chips_of_amd_is_none_here() {
    let (_, platform) = platform();
    let amd = crate::tee::testing::snp::Pki::shared();
    let endorsements = Endorsements {
        roots: Arc::new(Roots::with_extra(std::slice::from_ref(&amd.ark)).expect("root")),
        ..Endorsements::default()
    };
    assert_eq!(
        with(&endorsements, platform.quote(&REPORT_DATA)).expect_err("refused"),
        ["tdx-root"]
    );
}

#[test]
fn revoked_stale_and_missing_lists_are_told_apart() {
    let (pki, platform) = platform();
    let quote = || platform.quote(&REPORT_DATA);
    let lists = |crls| Collateral {
        crls,
        ..pki.collateral()
    };
    for (of_root, of_ca) in [(vec![CA_SERIAL], vec![]), (vec![], vec![PCK_SERIAL])] {
        let crls = pki.crls(NOW, &of_root, &of_ca);
        assert_eq!(
            with(&knowing(&pki, lists(crls)), quote()).expect_err("refused"),
            ["tdx-revoked"]
        );
    }
    let stale = pki.crls(NOW - 3 * 86_400, &[], &[]);
    assert_eq!(
        with(&knowing(&pki, lists(stale)), quote()).expect_err("refused"),
        ["tdx-crl-stale"]
    );
    let (other, _) = self::platform();
    let foreign = other.crls(NOW, &[], &[]);
    assert_eq!(
        with(&knowing(&pki, lists(foreign)), quote()).expect_err("refused"),
        ["tdx-crl"]
    );
    let mut one = pki.crls(NOW, &[], &[]);
    one.pop();
    let tee = with(&knowing(&pki, lists(one)), quote()).expect("authentic");
    assert_eq!(judge(&tee, &policy()), ["tee-crl-missing"]);
}

#[test]
fn the_platforms_age_is_judged_by_intels_word() {
    let (pki, platform) = platform();
    let quote = || platform.quote(&REPORT_DATA);
    let told = |info: &str, qe: &str| Collateral {
        tcb_infos: vec![pki.statement("tcbInfo", info)],
        qe_identity: Some(pki.statement("enclaveIdentity", qe)),
        ..pki.collateral()
    };
    for status in ["SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate", "Revoked"] {
        let endorsements = knowing(&pki, told(&tcb_info(status), &qe_identity("UpToDate")));
        let tee = with(&endorsements, quote()).expect("authentic");
        assert_eq!(judge(&tee, &policy()), ["tdx-tcb-status"], "{status}");
    }
    let tee = with(
        &knowing(&pki, told(&tcb_info("UpToDate"), &qe_identity("OutOfDate"))),
        quote(),
    );
    assert_eq!(
        judge(&tee.expect("authentic"), &policy()),
        ["tdx-tcb-status"],
        "an old enclave"
    );
    let old_module = platform.quote_with(|d| d.tee_tcb_svn.0[0] = 3);
    assert_eq!(
        judged(&platform, old_module, &policy()),
        ["tdx-tcb-status"],
        "an old module"
    );
    let old_platform = platform.quote_with(|d| d.tee_tcb_svn.0[7] = 2);
    assert_eq!(
        judged(&platform, old_platform, &policy()),
        ["tdx-tcb-status"],
        "an old platform"
    );
    let none = platform.quote_with(|d| d.tee_tcb_svn.0[7] = 0);
    assert_eq!(refused(&platform, none), ["tdx-tcb-unknown"]);
    let module = platform.quote_with(|d| d.tee_tcb_svn.0[1] = 3);
    assert_eq!(
        refused(&platform, module),
        ["tdx-tcb-unknown"],
        "no identity for its module"
    );
    let silent = Collateral {
        tcb_infos: vec![],
        ..pki.collateral()
    };
    let tee = with(&knowing(&pki, silent), quote()).expect("authentic");
    assert_eq!(judge(&tee, &policy()), ["tdx-tcb-unchecked"]);
}

#[test]
fn statements_that_are_changed_stale_or_by_others_do_not_count() {
    let (pki, platform) = platform();
    let quote = || platform.quote(&REPORT_DATA);
    let told = |statement| Collateral {
        tcb_infos: vec![statement],
        ..pki.collateral()
    };
    let good = pki.statement("tcbInfo", &tcb_info("UpToDate"));
    let mut changed = good.clone();
    let at = changed.json.windows(8).position(|w| w == b"UpToDate").expect("status");
    changed.json[at] = b'u';
    let (other, _) = self::platform();
    let cases = [
        (changed, "tdx-collateral"),
        (other.statement("tcbInfo", &tcb_info("UpToDate")), "tdx-collateral"),
        (pki.statement("tcbInfo", "{}"), "tdx-collateral"),
        (
            pki.statement("enclaveIdentity", &qe_identity("UpToDate")),
            "tdx-collateral",
        ),
        (
            pki.statement("tcbInfo", &tcb_info("UpToDate").replace("2027-02", "2027-01")),
            "tdx-collateral-stale",
        ),
        (
            pki.statement("tcbInfo", &tcb_info("UpToDate").replace("\"TDX\"", "\"SGX\"")),
            "tdx-collateral",
        ),
    ];
    for (at, (statement, check)) in cases.into_iter().enumerate() {
        let endorsements = knowing(&pki, told(statement));
        assert_eq!(with(&endorsements, quote()).expect_err("refused"), [check], "{at}");
    }
}

#[test]
fn bytes_that_are_no_quote_are_refused_by_what_is_wrong() {
    let (_, platform) = platform();
    let quote = platform.quote(&REPORT_DATA);
    for len in [0, 47, 48, 631, 635, 636, 700, quote.len() - 1] {
        assert!(
            matches!(Quote::parse(&quote[..len]), Err(QuoteError::Short(_))),
            "{len}"
        );
    }
    let with = |at: usize, byte: u8| {
        let mut quote = quote.clone();
        quote[at] = byte;
        Quote::parse(&quote).expect_err("refused")
    };
    assert!(matches!(with(0, 3), QuoteError::Unknown { what: "version", .. }));
    assert!(matches!(
        with(2, 3),
        QuoteError::Unknown {
            what: "attestation key type",
            ..
        }
    ));
    assert!(matches!(with(4, 0), QuoteError::Unknown { what: "TEE type", .. }));
    assert_eq!(with(12, 0), QuoteError::Vendor);
    assert!(
        matches!(with(635, 0xff), QuoteError::Short(_)),
        "a length beyond the buffer"
    );
    let trailing = [quote.as_slice(), &[1]].concat();
    assert_eq!(Quote::parse(&trailing), Err(QuoteError::Trailing));
    let mut long = quote.clone();
    long.resize(crate::limits::TEE_REPORT + 1, 0);
    assert!(matches!(Quote::parse(&long), Err(QuoteError::TooLarge { .. })));
}
