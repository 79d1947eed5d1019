//! SEV-SNP: reports of a chip in software under a root of its own, next to the TPM's quote of the ordinary boot.

use std::sync::Arc;

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::bits::{guest, platform};
use rempart_attest::tee::snp::chain::verify as verify_chain;
use rempart_attest::tee::snp::{Certificates, Generation, Levels, Minimum, Policy, Tcb, VerifiedVek};
use rempart_attest::tee::testing::snp::{ASK_SERIAL, Chip, Claims, Draft, LEVELS, Pki, VEK_SERIAL, policy};
use rempart_attest::tee::{Endorsements, Roots, TeeKind, TeeProvider, Vek};
use rempart_attest::testing::NOW;
use rempart_attest::{Blob, Fixed};

use super::scene::{Scene, ordinary};
use super::{Case, against, case};

const DAY: u64 = 86_400;
const MILAN: Generation = Generation::Milan;

fn genuine() -> Scene {
    let mut scene = ordinary();
    scene.policy.images[0].snp = Some(policy(MILAN));
    show(&mut scene, &Chip::new(MILAN), |_| {});
    scene
}

/// The report of `chip`, bound to the Evidence and then changed before the chip signs it.
fn show(scene: &mut Scene, chip: &Chip, edit: impl FnOnce(&mut Draft)) {
    let binding = scene.node.binding(&scene.evidence);
    let report = chip.report_with(|draft| {
        draft.report_data = binding;
        edit(draft);
    });
    scene.endorsements = chip.endorsements(NOW);
    scene.evidence.tee = Some(TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::ConfigfsTsm,
        report: Blob(report),
        certificates: Blob(chip.table()),
        runtime_data: Blob::default(),
    });
}

fn with(scene: &mut Scene, edit: impl FnOnce(&mut Draft)) {
    show(scene, &Chip::new(MILAN), edit);
}

fn rule(scene: &mut Scene) -> &mut Policy {
    scene.policy.images[0].snp.as_mut().expect("the scene has one")
}

fn lowered(lower: impl FnOnce(&mut Levels)) -> Tcb {
    let mut levels = LEVELS;
    lower(&mut levels);
    Tcb::from_levels(levels, MILAN)
}

/// Turin's levels have one more byte; it is 7 here.
const FMC: Levels = Levels { fmc: 7, ..LEVELS };

fn turin() -> Scene {
    let mut scene = ordinary();
    let mut demanded = policy(Generation::Turin);
    demanded.minimum = [(Generation::Turin, Minimum::all(FMC))].into();
    scene.policy.images[0].snp = Some(demanded);
    on_turin(&mut scene, FMC, |_| {});
    scene
}

fn on_turin(scene: &mut Scene, endorsed: Levels, edit: impl FnOnce(&mut Draft)) {
    let chip = Chip::endorsed(Arc::new(Pki::new(Generation::Turin)), |claims| claims.levels = endorsed);
    show(scene, &chip, edit);
}

fn lowered_fmc() -> Tcb {
    Tcb::from_levels(Levels { fmc: 6, ..FMC }, Generation::Turin)
}

/// A chip whose key AMD derived from lower patch levels.
fn old_chip(scene: &mut Scene, lower: impl FnOnce(&mut Levels)) {
    let chip = Chip::endorsed(Arc::new(Pki::new(MILAN)), |claims| lower(&mut claims.levels));
    show(scene, &chip, |_| {});
}

/// What a Verifier makes of certificates that do not count.
fn refuse(scene: &mut Scene, verified: Result<VerifiedVek, rempart_attest::tee::snp::ChainError>) {
    let error = verified.expect_err("the chain does not count");
    let finding = error.finding(super::scene::NODE);
    scene.endorsements = Endorsements {
        snp: Vek::Refused(finding),
        ..Endorsements::default()
    };
}

/// The chain of an honest chip, changed in one certificate.
fn mixed_up(scene: &mut Scene, change: impl FnOnce(&mut Certificates<'_>)) {
    let chip = Chip::new(MILAN);
    show(scene, &chip, |_| {});
    let crl = chip.pki().crl(NOW, &[]);
    let mut certificates = chip.certificates(Some(&crl));
    change(&mut certificates);
    refuse(scene, verify_chain(&certificates, &chip.pki().roots(), NOW));
}

/// A key whose certificate AMD signed, and that says something else than it should.
fn endorsed_as(scene: &mut Scene, edit: impl FnOnce(&mut Claims)) {
    let chip = Chip::endorsed(Arc::new(Pki::new(MILAN)), edit);
    let crl = chip.pki().crl(NOW, &[]);
    refuse(scene, chip.verified_with(Some(&crl), &chip.pki().roots(), NOW));
}

fn chain(scene: &mut Scene, crl: &[u8], chip: &Chip, roots: &Roots) {
    show(scene, chip, |_| {});
    refuse(scene, chip.verified_with(Some(crl), roots, NOW));
}

const ALL_TCBS: &[&str] = &[
    "snp-tcb-reported",
    "snp-tcb-committed",
    "snp-tcb-launch",
    "snp-tcb-current",
];

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("no TEE report where one is demanded", genuine, |s| s.evidence.tee = None, &["tee"]),
    case("SNP: debug", genuine, |s| with(s, |d| d.policy |= guest::DEBUG), &["snp-debug"]),
    case("SNP: migration agent allowed", genuine, |s| with(s, |d| d.policy |= guest::MIGRATE_MA), &["snp-migration-agent"]),
    case("SNP: migration agent present", genuine, |s| with(s, |d| d.report_id_ma = Fixed([1; 32])), &["snp-migration-agent"]),
    case("SNP: VMPL 1", genuine, |s| with(s, |d| d.vmpl = 1), &["snp-vmpl"]),
    case("SNP: VMPL 2", genuine, |s| with(s, |d| d.vmpl = 2), &["snp-vmpl"]),
    case("SNP: VMPL 3", genuine, |s| with(s, |d| d.vmpl = 3), &["snp-vmpl"]),
    case("SNP: SMT", genuine, |s| rule(s).allow_smt = false, &["snp-smt"]),
    case("SNP: CXL", genuine, |s| with(s, |d| d.policy |= guest::CXL_ALLOW), &["snp-cxl"]),
    case("SNP: several sockets", genuine, |s| rule(s).require_single_socket = true, &["snp-single-socket"]),
    case("SNP: alias check off", genuine, |s| with(s, |d| d.platform &= !platform::ALIAS_CHECK), &["snp-alias-check"]),
    case("SNP: no error correction", genuine, |s| {
        rule(s).require_ecc = true;
        with(s, |d| d.platform &= !platform::ECC);
    }, &["snp-ecc"]),
    case("SNP: no AES-256-XTS", genuine, |s| rule(s).require_aes_256_xts = true, &["snp-aes-256-xts"]),
    case("SNP: ciphertext visible", genuine, |s| rule(s).require_ciphertext_hiding = true, &["snp-ciphertext-hiding"]),
    case("SNP: power limits readable", genuine, |s| rule(s).require_rapl_disabled = true, &["snp-rapl"]),
    case("SNP: pages may be swapped", genuine, |s| rule(s).require_page_swap_disabled = true, &["snp-page-swap"]),
    case("SNP: older ABI allowed", genuine, |s| {
        rule(s).min_abi = Some(rempart_attest::tee::snp::bits::Abi { major: 9, minor: 0 });
    }, &["snp-abi"]),
    case("SNP: provisional firmware", genuine, |s| with(s, |d| d.committed_firmware = [2, 55, 1]), &["snp-provisional-firmware"]),
    case("SNP: TCB not committed", genuine, |s| {
        with(s, |d| d.current_tcb = lowered(|l| l.microcode += 1));
    }, &["snp-tcb-uncommitted"]),
    case("SNP: reported boot loader lowered", genuine, |s| old_chip(s, |l| l.bootloader -= 1), ALL_TCBS),
    case("SNP: reported TEE level lowered", genuine, |s| old_chip(s, |l| l.tee -= 1), ALL_TCBS),
    case("SNP: reported SNP level lowered", genuine, |s| old_chip(s, |l| l.snp -= 1), ALL_TCBS),
    case("SNP: reported microcode lowered", genuine, |s| old_chip(s, |l| l.microcode -= 1), ALL_TCBS),
    case("SNP: launch boot loader lowered", genuine, |s| with(s, |d| d.launch_tcb = lowered(|l| l.bootloader -= 1)), &["snp-tcb-launch"]),
    case("SNP: launch TEE level lowered", genuine, |s| with(s, |d| d.launch_tcb = lowered(|l| l.tee -= 1)), &["snp-tcb-launch"]),
    case("SNP: launch SNP level lowered", genuine, |s| with(s, |d| d.launch_tcb = lowered(|l| l.snp -= 1)), &["snp-tcb-launch"]),
    case("SNP: launch microcode lowered", genuine, |s| with(s, |d| d.launch_tcb = lowered(|l| l.microcode -= 1)), &["snp-tcb-launch"]),
    case("SNP: committed microcode lowered", genuine, |s| {
        with(s, |d| d.committed_tcb = lowered(|l| l.microcode -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-committed"]),
    case("SNP: committed boot loader lowered", genuine, |s| {
        with(s, |d| d.committed_tcb = lowered(|l| l.bootloader -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-committed"]),
    case("SNP: committed TEE level lowered", genuine, |s| {
        with(s, |d| d.committed_tcb = lowered(|l| l.tee -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-committed"]),
    case("SNP: committed SNP level lowered", genuine, |s| {
        with(s, |d| d.committed_tcb = lowered(|l| l.snp -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-committed"]),
    case("SNP: current boot loader lowered", genuine, |s| {
        with(s, |d| d.current_tcb = lowered(|l| l.bootloader -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-current"]),
    case("SNP: current TEE level lowered", genuine, |s| {
        with(s, |d| d.current_tcb = lowered(|l| l.tee -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-current"]),
    case("SNP: current SNP level lowered", genuine, |s| {
        with(s, |d| d.current_tcb = lowered(|l| l.snp -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-current"]),
    case("SNP: current microcode lowered", genuine, |s| {
        with(s, |d| d.current_tcb = lowered(|l| l.microcode -= 1));
    }, &["snp-tcb-uncommitted", "snp-tcb-current"]),
    case("SNP: reported fmc lowered", turin, |s| on_turin(s, Levels { fmc: 6, ..FMC }, |_| {}), ALL_TCBS),
    case("SNP: committed fmc lowered", turin, |s| {
        on_turin(s, FMC, |d| d.committed_tcb = lowered_fmc());
    }, &["snp-tcb-uncommitted", "snp-tcb-committed"]),
    case("SNP: launch fmc lowered", turin, |s| on_turin(s, FMC, |d| d.launch_tcb = lowered_fmc()), &["snp-tcb-launch"]),
    case("SNP: current fmc lowered", turin, |s| {
        on_turin(s, FMC, |d| d.current_tcb = lowered_fmc());
    }, &["snp-tcb-uncommitted", "snp-tcb-current"]),
    case("SNP: reported TCB that AMD did not endorse", genuine, |s| {
        with(s, |d| d.reported_tcb = lowered(|l| l.snp += 1));
    }, &["snp-tcb-endorsed"]),
    case("SNP: another measurement", genuine, |s| with(s, |d| d.measurement = Fixed([9; 48])), &["snp-measurement"]),
    case("SNP: another family id", genuine, |s| rule(s).family_ids = vec![Fixed([9; 16])], &["snp-family-id"]),
    case("SNP: another image id", genuine, |s| rule(s).image_ids = vec![Fixed([9; 16])], &["snp-image-id"]),
    case("SNP: another ID key", genuine, |s| rule(s).id_keys = vec![Fixed([9; 48])], &["snp-id-key"]),
    case("SNP: another author key", genuine, |s| rule(s).author_keys = vec![Fixed([9; 48])], &["snp-author-key"]),
    case("SNP: other host data", genuine, |s| rule(s).host_data = vec![Fixed([9; 32])], &["snp-host-data"]),
    case("SNP: guest SVN too low", genuine, |s| rule(s).min_guest_svn = 6, &["snp-guest-svn"]),
    case("SNP: a chip that is not listed", genuine, |s| rule(s).chips = vec![Fixed([9; 64])], &["snp-chip"]),
    case("SNP: a mitigation that is missing", genuine, |s| rule(s).mitigations = 1, &["snp-mitigations"]),
    case("SNP: a generation that the policy does not name", genuine, |s| {
        let minimum = rule(s).minimum.remove(&MILAN).expect("named");
        rule(s).minimum.insert(Generation::Genoa, minimum);
    }, &["snp-generation-refused"]),
    case("SNP: VLEK where the policy wants the chip's own key", genuine, |s| {
        show(s, &Chip::of_provider(MILAN, "cloud"), |_| {});
    }, &["snp-vlek"]),
    case("SNP: VLEK passed as VCEK", genuine, |s| {
        show(s, &Chip::of_provider(MILAN, "cloud"), |d| d.keys = 0);
    }, &["snp-signing-key"]),
    case("SNP: chip key masked", genuine, |s| with(s, |d| d.keys |= 2), &["snp-mask-chip-key"]),
    case("SNP: CHIP_ID of another chip", genuine, |s| with(s, |d| d.chip_id = Fixed([9; 64])), &["snp-chip-id"]),
    case("SNP: processor of another generation", genuine, |s| with(s, |d| d.cpuid = [0x19, 0x11, 1]), &["snp-generation"]),
    case("SNP: REPORT_DATA of another exchange", genuine, |s| with(s, |d| d.report_data = Fixed([9; 64])), &["tee-report-data"]),
    case("SNP: REPORT_DATA of another AK", genuine, |s| {
        let other = rempart_attest::testing::Node::new().binding(&s.evidence);
        with(s, |d| d.report_data = other);
    }, &["tee-report-data"]),
    case("SNP: changed signature", genuine, |s| {
        s.evidence.tee.as_mut().expect("tee").report.0[0x2a0] ^= 1;
    }, &["snp-signature"]),
    case("SNP: report cut short", genuine, |s| {
        s.evidence.tee.as_mut().expect("tee").report.0.pop();
    }, &["snp-report"]),
    case("SNP: a root of the Verifier's own", genuine, |s| rule(s).accept_file_provider = false, &["tee-test-root"]),
    case("SNP: a report out of a file", genuine, |s| {
        rule(s).accept_file_provider = false;
        s.evidence.tee.as_mut().expect("tee").provider = TeeProvider::File;
    }, &["tee-test-root", "tee-file-provider"]),
    case("SNP: runtime data where none belong", genuine, |s| {
        s.evidence.tee.as_mut().expect("tee").runtime_data.0 = b"{}".to_vec();
    }, &["tee-provider"]),
    against("verifier", "SNP: no endorsement of the key", genuine, |s| s.endorsements = Endorsements::default(), &["snp-endorsement"]),
    against("verifier", "SNP: no revocation list", genuine, |s| {
        let chip = Chip::new(MILAN);
        show(s, &chip, |_| {});
        let vek = chip.verified_with(None, &chip.pki().roots(), NOW).expect("a chain without a list");
        s.endorsements = Endorsements { snp: Vek::Verified(Arc::new(vek)), ..Endorsements::default() };
    }, &["tee-crl-missing"]),
    case("SNP: root that nobody pinned", genuine, |s| {
        let chip = Chip::endorsed(Arc::new(Pki::stranger(MILAN)), |_| {});
        let crl = chip.pki().crl(NOW, &[]);
        chain(s, &crl, &chip, &Pki::new(MILAN).roots());
    }, &["snp-root"]),
    case("SNP: root of another generation", genuine, |s| {
        let chip = Chip::endorsed(Arc::new(Pki::new(MILAN)), |claims| claims.product = "Genoa-B0".into());
        let (crl, roots) = (chip.pki().crl(NOW, &[]), chip.pki().roots());
        let error = chip.verified_with(Some(&crl), &roots, NOW);
        refuse(s, error);
    }, &["snp-root-generation"]),
    case("SNP: revoked intermediate", genuine, |s| {
        let chip = Chip::new(MILAN);
        let (crl, roots) = (chip.pki().crl(NOW, &[ASK_SERIAL]), chip.pki().roots());
        chain(s, &crl, &chip, &roots);
    }, &["snp-revoked"]),
    against("verifier", "SNP: stale revocation list", genuine, |s| {
        let chip = Chip::new(MILAN);
        let (crl, roots) = (chip.pki().crl_between(NOW - 60 * DAY, NOW - 30 * DAY, &[]), chip.pki().roots());
        chain(s, &crl, &chip, &roots);
    }, &["snp-crl-stale"]),
    against("verifier", "SNP: revocation list by somebody else", genuine, |s| {
        let chip = Chip::new(MILAN);
        let (crl, roots) = (Pki::stranger(MILAN).crl(NOW, &[]), chip.pki().roots());
        chain(s, &crl, &chip, &roots);
    }, &["snp-crl-signature"]),
    against("verifier", "SNP: revocation list from the future", genuine, |s| {
        let chip = Chip::new(MILAN);
        let (crl, roots) = (chip.pki().crl_between(NOW + DAY, NOW + 30 * DAY, &[]), chip.pki().roots());
        chain(s, &crl, &chip, &roots);
    }, &["snp-crl"]),
    against("verifier", "SNP: revocation list that is none", genuine, |s| {
        let chip = Chip::new(MILAN);
        let roots = chip.pki().roots();
        chain(s, b"rubbish", &chip, &roots);
    }, &["snp-crl"]),
    against("verifier", "SNP: endorsement that has lapsed since it was verified", genuine, |s| {
        let chip = Chip::new(MILAN);
        show(s, &chip, |_| {});
        let then = NOW - 60 * DAY;
        let vek = chip.verified_with(Some(&chip.pki().crl(then, &[])), &chip.pki().roots(), then);
        s.endorsements.snp = Vek::Verified(Arc::new(vek.expect("it counted then")));
    }, &["snp-endorsement-lapsed"]),
    case("SNP: revoked key", genuine, |s| {
        let chip = Chip::new(MILAN);
        let (crl, roots) = (chip.pki().crl(NOW, &[VEK_SERIAL]), chip.pki().roots());
        chain(s, &crl, &chip, &roots);
    }, &["snp-revoked"]),
    case("SNP: root certificate that is none", genuine, |s| mixed_up(s, |c| c.ark = b"rubbish"), &["snp-ark"]),
    case("SNP: intermediate by another root", genuine, |s| {
        let stranger = Pki::stranger(MILAN);
        mixed_up(s, |c| c.ask = stranger.ask.leak());
    }, &["snp-ask"]),
    case("SNP: key certified by another intermediate", genuine, |s| {
        let strange = Chip::endorsed(Arc::new(Pki::stranger(MILAN)), |_| {});
        mixed_up(s, |c| c.vek = strange.certificate.leak());
    }, &["snp-vek"]),
    case("SNP: key certificate with a changed signature", genuine, |s| {
        mixed_up(s, |c| {
            let mut changed = c.vek.to_vec();
            *changed.last_mut().expect("signature") ^= 1;
            c.vek = changed.leak();
        });
    }, &["snp-vek"]),
    case("SNP: key of a chip and of a provider at once", genuine, |s| {
        endorsed_as(s, |claims| claims.provider = Some("cloud".into()));
    }, &["snp-vek-extensions"]),
    case("SNP: key of a product that nobody knows", genuine, |s| {
        endorsed_as(s, |claims| claims.product = "Naples".into());
    }, &["snp-vek-extensions"]),
    case("SNP: a VLEK's extensions under a VCEK's name", genuine, |s| {
        endorsed_as(s, |claims| {
            claims.chip = None;
            claims.provider = Some("cloud".into());
        });
    }, &["snp-vek-kind"]),
];
