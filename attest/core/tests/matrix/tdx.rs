//! TDX: quotes of a platform in software under a root of its own, next to the TPM's quote of the ordinary boot.

use std::sync::Arc;

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::tdx::collateral::Statement;
use rempart_attest::tee::tdx::{Collateral, Policy};
use rempart_attest::tee::testing::tdx::{CA_SERIAL, Draft, PCK_SERIAL, Pki, Platform, policy, qe_identity, tcb_info};
use rempart_attest::tee::{Endorsements, TeeKind, TeeProvider};
use rempart_attest::testing::NOW;
use rempart_attest::{Blob, Fixed};

use super::scene::{Scene, ordinary};
use super::{Case, against, case};

const DAY: u64 = 86_400;

fn genuine() -> Scene {
    let mut scene = ordinary();
    scene.policy.images[0].tdx = Some(policy());
    with(&mut scene, |_| {});
    scene
}

/// A quote bound to the Evidence and then changed before the platform signs it.
fn with(scene: &mut Scene, edit: impl FnOnce(&mut Draft)) {
    play(scene, &Platform::new(Pki::generate()), edit, None);
}

fn play(scene: &mut Scene, platform: &Platform, edit: impl FnOnce(&mut Draft), collateral: Option<Collateral>) {
    let binding = scene.node.binding(&scene.evidence);
    let report = platform.quote_with(|draft| {
        draft.report_data = binding;
        edit(draft);
    });
    scene.endorsements = platform.endorsements();
    if let Some(collateral) = collateral {
        scene.endorsements.tdx = Arc::new(collateral);
    }
    scene.evidence.tee = Some(TeeEvidence {
        kind: TeeKind::Tdx,
        provider: TeeProvider::ConfigfsTsm,
        report: Blob(report),
        certificates: Blob::default(),
        runtime_data: Blob::default(),
    });
}

/// With what the Verifier knows of Intel's words changed.
fn knowing(scene: &mut Scene, edit: impl FnOnce(&mut Draft), change: impl FnOnce(&Pki, &mut Collateral)) {
    let pki = Pki::generate();
    let mut collateral = pki.collateral();
    change(&pki, &mut collateral);
    play(scene, &Platform::new(pki), edit, Some(collateral));
}

/// A Verifier without a statement of Intel on the platform's age, and a policy that puts up with that.
fn unjudged(scene: &mut Scene, edit: impl FnOnce(&mut Draft)) {
    rule(scene).allow_unchecked_tcb = true;
    knowing(scene, edit, |_, c| (c.tcb_infos, c.qe_identity) = (vec![], None));
}

fn lists(scene: &mut Scene, make: impl FnOnce(&Pki) -> Vec<Vec<u8>>) {
    knowing(scene, |_| {}, |pki, c| c.crls = make(pki));
}

fn statement(scene: &mut Scene, make: impl FnOnce(&Pki) -> Statement) {
    knowing(scene, |_| {}, |pki, c| c.tcb_infos = vec![make(pki)]);
}

fn aged(scene: &mut Scene, platform: &str, enclave: &str) {
    let (info, identity) = (tcb_info(platform), qe_identity(enclave));
    knowing(
        scene,
        |_| {},
        |pki, c| {
            c.tcb_infos = vec![pki.statement("tcbInfo", &info)];
            c.qe_identity = Some(pki.statement("enclaveIdentity", &identity));
        },
    );
}

fn rule(scene: &mut Scene) -> &mut Policy {
    scene.policy.images[0].tdx.as_mut().expect("the scene has one")
}

/// Changes a byte of the quote's first certificate, which nothing else than its own chain covers.
fn change_pck(scene: &mut Scene) {
    const END: &[u8] = b"\n-----END";
    let report = report(scene);
    let end = report.windows(END.len()).position(|w| w == END).expect("a certificate");
    // Four base64 characters before the last group: within the signature.
    let at = &mut report[end - 8];
    *at = if *at == b'A' { b'B' } else { b'A' };
}

fn report(scene: &mut Scene) -> &mut Vec<u8> {
    &mut scene.evidence.tee.as_mut().expect("the scene has one").report.0
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("TDX: debug", genuine, |s| with(s, |d| d.td_attributes |= 1), &["tdx-debug"]),
    case("TDX: an attribute that nobody knows", genuine, |s| with(s, |d| d.td_attributes |= 1 << 40), &["tdx-attributes"]),
    case("TDX: page faults handed to the guest", genuine, |s| with(s, |d| d.td_attributes &= !(1 << 28)), &["tdx-sept-ve-disable"]),
    case("TDX: migratable", genuine, |s| with(s, |d| d.td_attributes |= 1 << 29), &["tdx-migratable"]),
    case("TDX: performance counters", genuine, |s| with(s, |d| d.td_attributes |= 1 << 63), &["tdx-perfmon"]),
    case("TDX: module in debug", genuine, |s| with(s, |d| d.seam_attributes = 1), &["tdx-tcb-unknown"]),
    case("TDX: another measurement", genuine, |s| with(s, |d| d.mr_td = Fixed([9; 48])), &["tdx-mrtd"]),
    case("TDX: REPORT_DATA of another exchange", genuine, |s| with(s, |d| d.report_data = Fixed([9; 64])), &["tee-report-data"]),
    case("TDX: quoting enclave that commits to another key", genuine, |s| {
        with(s, |d| d.qe_report_data = Some(Fixed([9; 32])));
    }, &["tdx-qe-report-data"]),
    case("TDX: changed measurement under an old signature", genuine, |s| report(s)[48 + 136] ^= 1, &["tdx-signature"]),
    case("TDX: quote cut short", genuine, |s| { report(s).pop(); }, &["tdx-quote"]),
    case("TDX: root that nobody pinned", genuine, |s| s.endorsements = Endorsements::default(), &["tdx-root"]),
    case("TDX where the policy demands SNP", genuine, |s| {
        let image = &mut s.policy.images[0];
        image.tdx = None;
        image.snp = Some(rempart_attest::tee::testing::snp::policy(rempart_attest::tee::snp::Generation::Milan));
    }, &["tee"]),
    case("TDX: a quote that claims to be SNP", genuine, |s| {
        s.evidence.tee.as_mut().expect("tee").kind = TeeKind::SevSnp;
        s.endorsements.snp = rempart_attest::tee::testing::snp::Chip::new(rempart_attest::tee::snp::Generation::Milan)
            .endorsements(rempart_attest::testing::NOW).snp;
    }, &["snp-report"]),
    case("TDX by a way that has no quotes", genuine, |s| {
        s.evidence.tee.as_mut().expect("tee").provider = TeeProvider::SevGuest;
    }, &["tee-provider"]),
    case("TDX: another RTMR 0", genuine, |s| {
        rule(s).rtmr0 = vec![Draft::default().rtmr[0]];
        with(s, |d| d.rtmr[0] = Fixed([9; 48]));
    }, &["tdx-rtmr0"]),
    case("TDX: another RTMR 1", genuine, |s| {
        rule(s).rtmr1 = vec![Draft::default().rtmr[1]];
        with(s, |d| d.rtmr[1] = Fixed([9; 48]));
    }, &["tdx-rtmr1"]),
    case("TDX: another RTMR 2", genuine, |s| {
        rule(s).rtmr2 = vec![Draft::default().rtmr[2]];
        with(s, |d| d.rtmr[2] = Fixed([9; 48]));
    }, &["tdx-rtmr2"]),
    case("TDX: another RTMR 3", genuine, |s| {
        rule(s).rtmr3 = vec![Draft::default().rtmr[3]];
        with(s, |d| d.rtmr[3] = Fixed([9; 48]));
    }, &["tdx-rtmr3"]),
    case("TDX: another MRCONFIGID", genuine, |s| {
        rule(s).mrconfigid = vec![Draft::default().mr_config_id];
        with(s, |d| d.mr_config_id = Fixed([9; 48]));
    }, &["tdx-mrconfigid"]),
    case("TDX: another MROWNER", genuine, |s| {
        rule(s).mrowner = vec![Draft::default().mr_owner];
        with(s, |d| d.mr_owner = Fixed([9; 48]));
    }, &["tdx-mrowner"]),
    case("TDX: another MROWNERCONFIG", genuine, |s| {
        rule(s).mrownerconfig = vec![Draft::default().mr_owner_config];
        with(s, |d| d.mr_owner_config = Fixed([9; 48]));
    }, &["tdx-mrownerconfig"]),
    case("TDX: another TDX module", genuine, |s| {
        rule(s).mrseam = vec![Draft::default().mr_seam];
        with(s, |d| d.mr_seam = Fixed([9; 48]));
    }, &["tdx-mrseam"]),
    case("TDX: module by another signer", genuine, |s| {
        unjudged(s, |d| d.mr_signer_seam = Fixed([9; 48]));
    }, &["tdx-mrsignerseam"]),
    case("TDX: module in debug, of which Intel says nothing", genuine, |s| {
        unjudged(s, |d| d.seam_attributes = 1);
    }, &["tdx-seam-attributes"]),
    case("TDX: a feature that the policy does not allow", genuine, |s| {
        rule(s).xfam_allowed = Some(Draft::default().xfam);
        with(s, |d| d.xfam |= 1 << 20);
    }, &["tdx-xfam"]),
    case("TDX: module older than the policy accepts", genuine, |s| {
        rule(s).min_tee_tcb_svn = Some(Draft::default().tee_tcb_svn);
        unjudged(s, |d| d.tee_tcb_svn.0[5] -= 1);
    }, &["tdx-tee-tcb-svn"]),
    case("TDX: a service TD is bound", genuine, |s| with(s, |d| {
        d.version = 5;
        d.mr_service_td = Some(Fixed([1; 48]));
    }), &["tdx-migratable"]),
    case("TDX: certificate of the platform changed", genuine, change_pck, &["tdx-chain"]),
    case("TDX: certificate that names no platform", genuine, |s| {
        play(s, &Platform::nameless(Pki::generate()), |_| {}, None);
    }, &["tdx-pck"]),
    case("TDX: quoting enclave of another signer", genuine, |s| {
        with(s, |d| d.qe_signer = Fixed([9; 32]));
    }, &["tdx-qe", "tdx-qe-identity"]),
    case("TDX: quoting enclave in debug", genuine, |s| with(s, |d| d.qe_attributes = 2), &["tdx-qe", "tdx-qe-identity"]),
    case("TDX: quoting enclave older than Intel knows", genuine, |s| with(s, |d| d.qe_svn = 3), &["tdx-qe-identity"]),
    case("TDX: changed report of the quoting enclave", genuine, |s| {
        report(s)[48 + 584 + 4 + 128 + 6] ^= 1;
    }, &["tdx-qe-signature"]),
    case("TDX: platform revoked", genuine, |s| lists(s, |pki| pki.crls(NOW, &[], &[PCK_SERIAL])), &["tdx-revoked"]),
    case("TDX: intermediate revoked", genuine, |s| lists(s, |pki| pki.crls(NOW, &[CA_SERIAL], &[])), &["tdx-revoked"]),
    against("verifier", "TDX: stale revocation list", genuine, |s| {
        lists(s, |pki| pki.crls(NOW - 3 * DAY, &[], &[]));
    }, &["tdx-crl-stale"]),
    against("verifier", "TDX: revocation list by somebody else", genuine, |s| {
        lists(s, |_| Pki::generate().crls(NOW, &[], &[]));
    }, &["tdx-crl"]),
    against("verifier", "TDX: one revocation list of two", genuine, |s| {
        lists(s, |pki| pki.crls(NOW, &[], &[])[..1].to_vec());
    }, &["tee-crl-missing"]),
    case("TDX: platform out of date", genuine, |s| aged(s, "OutOfDate", "UpToDate"), &["tdx-tcb-status"]),
    case("TDX: platform revoked by its age", genuine, |s| aged(s, "Revoked", "UpToDate"), &["tdx-tcb-status"]),
    case("TDX: quoting enclave out of date", genuine, |s| aged(s, "UpToDate", "OutOfDate"), &["tdx-tcb-status"]),
    case("TDX: platform older than Intel knows", genuine, |s| with(s, |d| d.tee_tcb_svn.0[7] = 0), &["tdx-tcb-unknown"]),
    against("verifier", "TDX: no statement on the platform's age", genuine, |s| {
        knowing(s, |_| {}, |_, c| c.tcb_infos.clear());
    }, &["tdx-tcb-unchecked"]),
    against("verifier", "TDX: statement by somebody else", genuine, |s| {
        statement(s, |_| Pki::generate().statement("tcbInfo", &tcb_info("UpToDate")));
    }, &["tdx-collateral"]),
    against("verifier", "TDX: statement with a changed byte", genuine, |s| statement(s, |pki| {
        let mut changed = pki.statement("tcbInfo", &tcb_info("OutOfDate"));
        let at = changed.json.windows(9).position(|w| w == b"OutOfDate").expect("status");
        changed.json[at] = b'U';
        changed
    }), &["tdx-collateral"]),
    against("verifier", "TDX: statement on SGX and not on TDX", genuine, |s| statement(s, |pki| {
        pki.statement("tcbInfo", &tcb_info("UpToDate").replace("\"TDX\"", "\"SGX\""))
    }), &["tdx-collateral"]),
    against("verifier", "TDX: stale statement", genuine, |s| statement(s, |pki| {
        pki.statement("tcbInfo", &tcb_info("UpToDate").replace("2027-02", "2027-01"))
    }), &["tdx-collateral-stale"]),
];
