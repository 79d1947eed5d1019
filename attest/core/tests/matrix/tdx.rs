//! TDX: quotes of a platform in software under a root of its own, next to the TPM's quote of the ordinary boot.

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::testing::tdx::{Draft, Pki, Platform, policy};
use rempart_attest::tee::{Endorsements, TeeKind, TeeProvider};
use rempart_attest::{Blob, Fixed};

use super::scene::{Scene, ordinary};
use super::{Case, case};

fn genuine() -> Scene {
    let mut scene = ordinary();
    scene.policy.images[0].tdx = Some(policy());
    with(&mut scene, |_| {});
    scene
}

/// A quote bound to the Evidence and then changed before the platform signs it.
fn with(scene: &mut Scene, edit: impl FnOnce(&mut Draft)) {
    let platform = Platform::new(Pki::generate());
    let binding = scene.node.binding(&scene.evidence);
    let report = platform.quote_with(|draft| {
        draft.report_data = binding;
        edit(draft);
    });
    scene.endorsements = platform.endorsements();
    scene.evidence.tee = Some(TeeEvidence {
        kind: TeeKind::Tdx,
        provider: TeeProvider::ConfigfsTsm,
        report: Blob(report),
        certificates: Blob::default(),
        runtime_data: Blob::default(),
    });
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
];
