//! A verified report against `[image.snp]`: each demand is a function with a finding of its own, and all of them run.

use super::bits::{GuestPolicy, SigningKey, guest, platform};
use super::chain::VerifiedVek;
use super::extensions::Holder;
use super::policy::{Minimum, Policy};
use super::report::Report;
use super::tcb::{Levels, Tcb};
use crate::bytes::Fixed;
use crate::finding::Finding;

const LAUNCH: &str = "launch the guest again with the policy that its owner wants";
const PLATFORM: &str = "move the guest to a host that is set up so, or have the host's operator set it up";
const FIRMWARE: &str = "have the host's operator update the platform's firmware, then launch the guest again";
const POLICY: &str = "if this is wanted, name it in the policy; else treat the machine as not yours";

/// Judges a report; an empty list affirms it.
pub(crate) fn appraise(who: &str, report: &Report, vek: &VerifiedVek, policy: &Policy) -> Vec<Finding> {
    let case = Case {
        who,
        report,
        vek,
        policy,
    };
    let mut findings: Vec<_> = CHECKS.iter().filter_map(|check| check(&case)).collect();
    findings.extend(tcb_is_high_enough(&case));
    findings
}

struct Case<'a> {
    who: &'a str,
    report: &'a Report,
    vek: &'a VerifiedVek,
    policy: &'a Policy,
}

type Check = fn(&Case<'_>) -> Option<Finding>;

/// Every demand with at most one finding.
const CHECKS: [Check; 25] = [
    debugging_is_off,
    no_migration_agent,
    vmpl_is_expected,
    abi_is_demanded,
    smt_is_as_allowed,
    cxl_is_as_allowed,
    socket_is_single,
    aliases_were_checked,
    ciphertext_is_hidden,
    power_limits_are_hidden,
    cipher_is_aes_256_xts,
    memory_has_ecc,
    pages_stay,
    firmware_is_committed,
    tcb_is_committed,
    guest_svn_is_high_enough,
    measurement_is_listed,
    family_is_listed,
    image_is_listed,
    id_key_is_listed,
    author_key_is_listed,
    host_data_is_listed,
    chip_is_listed,
    signing_key_is_allowed,
    mitigations_are_there,
];

impl Case<'_> {
    fn unless(&self, good: bool, check: &str, what: &str, remedy: &str) -> Option<Finding> {
        (!good).then(|| Finding::new(check, self.who, what, remedy))
    }

    fn launch(&self) -> GuestPolicy {
        self.report.policy
    }

    fn listed<const N: usize>(&self, list: &[Fixed<N>], found: &Fixed<N>, check: &str, what: &str) -> Option<Finding> {
        if list.is_empty() || list.contains(found) {
            return None;
        }
        let expected: Vec<_> = list.iter().take(4).map(ToString::to_string).collect();
        Some(
            Finding::new(check, self.who, what, POLICY)
                .expected(expected.join(" or "))
                .found(found.to_string()),
        )
    }
}

fn debugging_is_off(case: &Case<'_>) -> Option<Finding> {
    let what = "the host may read and write the guest's memory (debugging is allowed by its launch policy)";
    case.unless(!case.launch().has(guest::DEBUG), "snp-debug", what, LAUNCH)
}

fn no_migration_agent(case: &Case<'_>) -> Option<Finding> {
    let what = "the guest may be migrated by an agent, which then holds its memory and keys";
    let good = !case.launch().has(guest::MIGRATE_MA) && case.report.migration_agent.is_none();
    case.unless(good, "snp-migration-agent", what, LAUNCH)
}

fn vmpl_is_expected(case: &Case<'_>) -> Option<Finding> {
    let (want, found) = (case.policy.vmpl, case.report.vmpl);
    let what = "another privilege level of the guest asked for the report than the policy expects";
    case.unless(want == found, "snp-vmpl", what, POLICY)
        .map(|f| f.expected(want.to_string()).found(found.to_string()))
}

fn abi_is_demanded(case: &Case<'_>) -> Option<Finding> {
    let (want, found) = (case.policy.min_abi?, case.launch().min_abi());
    let what = "the guest's launch policy lets older firmware run it than the policy accepts";
    case.unless(found >= want, "snp-abi", what, LAUNCH)
        .map(|f| f.expected(format!("at least {want}")).found(found.to_string()))
}

fn smt_is_as_allowed(case: &Case<'_>) -> Option<Finding> {
    let on = case.launch().has(guest::SMT) || case.report.platform.has(platform::SMT);
    let what =
        "simultaneous multi-threading is on or may be switched on: the host's code may share a core with the guest";
    case.unless(case.policy.allow_smt || !on, "snp-smt", what, POLICY)
}

fn cxl_is_as_allowed(case: &Case<'_>) -> Option<Finding> {
    let what = "the guest's launch policy allows CXL memory and devices";
    let good = case.policy.allow_cxl || !case.launch().has(guest::CXL_ALLOW);
    case.unless(good, "snp-cxl", what, LAUNCH)
}

fn socket_is_single(case: &Case<'_>) -> Option<Finding> {
    let what = "the guest may run on several sockets";
    let good = !case.policy.require_single_socket || case.launch().has(guest::SINGLE_SOCKET);
    case.unless(good, "snp-single-socket", what, LAUNCH)
}

fn aliases_were_checked(case: &Case<'_>) -> Option<Finding> {
    // Before version 3 the bit is reserved: such firmware cannot say it.
    let checked = case.report.version >= 3 && case.report.platform.has(platform::ALIAS_CHECK);
    let what = "the platform has not checked its memory for aliases (BadRAM, AMD-SB-3015)";
    case.unless(
        checked || !case.policy.require_alias_check,
        "snp-alias-check",
        what,
        FIRMWARE,
    )
}

/// A demand that must hold on the platform now and be fixed in the launch policy, so that it holds tomorrow.
fn both(case: &Case<'_>, demanded: bool, now: u64, fixed: u64, check: &str, what: &str) -> Option<Finding> {
    let (now, fixed) = (case.report.platform.has(now), case.launch().has(fixed));
    if !demanded || (now && fixed) {
        return None;
    }
    let said = |on: bool| if on { "yes" } else { "no" };
    Some(
        Finding::new(check, case.who, what, PLATFORM)
            .expected("on the platform: yes, by launch policy: yes")
            .found(format!(
                "on the platform: {}, by launch policy: {}",
                said(now),
                said(fixed)
            )),
    )
}

fn ciphertext_is_hidden(case: &Case<'_>) -> Option<Finding> {
    both(
        case,
        case.policy.require_ciphertext_hiding,
        platform::CIPHERTEXT_HIDING,
        guest::CIPHERTEXT_HIDING,
        "snp-ciphertext-hiding",
        "the host can see the guest's memory as ciphertext, and so see when a value repeats",
    )
}

fn power_limits_are_hidden(case: &Case<'_>) -> Option<Finding> {
    both(
        case,
        case.policy.require_rapl_disabled,
        platform::RAPL_DIS,
        guest::RAPL_DIS,
        "snp-rapl",
        "the host can measure power (RAPL), which tells about keys in use",
    )
}

fn cipher_is_aes_256_xts(case: &Case<'_>) -> Option<Finding> {
    let what = "the guest's launch policy does not demand AES-256-XTS for its memory";
    let good = !case.policy.require_aes_256_xts || case.launch().has(guest::MEM_AES_256_XTS);
    case.unless(good, "snp-aes-256-xts", what, LAUNCH)
}

fn memory_has_ecc(case: &Case<'_>) -> Option<Finding> {
    let what = "the platform's memory has no error correction, so bits can be flipped unseen";
    let good = !case.policy.require_ecc || case.report.platform.has(platform::ECC);
    case.unless(good, "snp-ecc", what, PLATFORM)
}

fn pages_stay(case: &Case<'_>) -> Option<Finding> {
    let what = "the guest's launch policy lets the host move and swap its pages";
    let good = !case.policy.require_page_swap_disabled || case.launch().has(guest::PAGE_SWAP_DISABLE);
    case.unless(good, "snp-page-swap", what, LAUNCH)
}

fn firmware_is_committed(case: &Case<'_>) -> Option<Finding> {
    let (current, committed) = (case.report.current_firmware, case.report.committed_firmware);
    let what = "the platform runs provisional firmware: the host can go back to an older one at any time";
    let good = case.policy.allow_provisional_firmware || current == committed;
    case.unless(good, "snp-provisional-firmware", what, FIRMWARE)
        .map(|f| f.expected(committed.to_string()).found(current.to_string()))
}

fn tcb_is_committed(case: &Case<'_>) -> Option<Finding> {
    let report = case.report;
    let levels = |tcb: Tcb| tcb.levels(case.vek.generation).to_string();
    let (current, committed) = (report.current_tcb, report.committed_tcb);
    let held = [report.reported_tcb, report.launch_tcb]
        .into_iter()
        .all(|tcb| committed.at_least(tcb));
    let what = "the platform has not committed to the TCB that it runs, reports or launched the guest with: the host can go back behind it";
    let good = case.policy.allow_provisional_firmware || (current == committed && held);
    case.unless(good, "snp-tcb-uncommitted", what, FIRMWARE).map(|f| {
        f.expected(format!("current = committed ({})", levels(committed)))
            .found(format!(
                "current {}; reported {}; launch {}",
                levels(current),
                levels(report.reported_tcb),
                levels(report.launch_tcb)
            ))
    })
}

fn guest_svn_is_high_enough(case: &Case<'_>) -> Option<Finding> {
    let (want, found) = (case.policy.min_guest_svn, case.report.guest_svn);
    let what = "the ID block's security version is older than the policy accepts";
    case.unless(found >= want, "snp-guest-svn", what, LAUNCH)
        .map(|f| f.expected(format!("at least {want}")).found(found.to_string()))
}

fn measurement_is_listed(case: &Case<'_>) -> Option<Finding> {
    let (list, found) = (&case.policy.measurements, case.report.measurement);
    let what = "the guest was launched with other memory than the policy accepts";
    let finding = || {
        let expected: Vec<_> = list.iter().take(4).map(ToString::to_string).collect();
        Finding::new("snp-measurement", case.who, what, POLICY)
            .expected(expected.join(" or "))
            .found(found.to_string())
    };
    // Unlike the other lists: an empty one accepts nothing.
    (!list.contains(&found)).then(finding)
}

fn family_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the ID block's family is not one that the policy accepts";
    case.listed(&case.policy.family_ids, &case.report.family_id, "snp-family-id", what)
}

fn image_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the ID block's image is not one that the policy accepts";
    case.listed(&case.policy.image_ids, &case.report.image_id, "snp-image-id", what)
}

fn id_key_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the ID block was signed by no key that the policy accepts";
    case.listed(&case.policy.id_keys, &case.report.id_key, "snp-id-key", what)
}

fn author_key_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the ID block's key was certified by no author that the policy accepts";
    // Without AUTHOR_KEY_EN the digest means nothing.
    let meant = case.report.keys.author_key();
    let found = if meant { case.report.author_key } else { Fixed::ZERO };
    case.listed(&case.policy.author_keys, &found, "snp-author-key", what)
}

fn host_data_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the host gave other data (HOST_DATA) than the policy accepts";
    case.listed(&case.policy.host_data, &case.report.host_data, "snp-host-data", what)
}

fn chip_is_listed(case: &Case<'_>) -> Option<Finding> {
    let what = "the chip is none of those that the policy names";
    // Under a VLEK the host says which chip it is, and nobody vouches for it.
    let found = case.vek.chip_id().copied().unwrap_or(Fixed::ZERO);
    case.listed(&case.policy.chips, &found, "snp-chip", what)
}

fn signing_key_is_allowed(case: &Case<'_>) -> Option<Finding> {
    let Holder::Provider(provider) = &case.vek.holder else {
        return None;
    };
    let named = case.policy.vlek_providers.is_empty() || case.policy.vlek_providers.contains(provider);
    let what = "the report is signed by a cloud provider's key and not by the chip's own";
    case.unless(case.policy.allow_vlek && named, "snp-vlek", what, POLICY)
        .map(|f| {
            f.expected(SigningKey::Vcek.name())
                .found(format!("{} of \"{provider}\"", SigningKey::Vlek))
        })
}

fn mitigations_are_there(case: &Case<'_>) -> Option<Finding> {
    let want = case.policy.mitigations;
    let (launch, current) = case.report.mitigations.unwrap_or((0, 0));
    let what = "the platform has not verified all mitigations that the policy demands, at launch and now";
    let good = launch & current & want == want;
    case.unless(good, "snp-mitigations", what, FIRMWARE).map(|f| {
        f.expected(format!("{want:#x}"))
            .found(format!("at launch {launch:#x}, now {current:#x}"))
    })
}

/// One finding for each of the four TCBs that is too old, or one for a generation that the policy does not name.
fn tcb_is_high_enough(case: &Case<'_>) -> Vec<Finding> {
    let Some(minimum) = case.policy.minimum.get(&case.vek.generation) else {
        let what = "the policy does not name the processor's generation";
        let named: Vec<_> = case.policy.minimum.keys().map(|g| g.name()).collect();
        return vec![
            Finding::new("snp-generation-refused", case.who, what, POLICY)
                .expected(named.join(" or "))
                .found(case.vek.generation.name()),
        ];
    };
    let Minimum {
        reported,
        committed,
        launch,
        current,
    } = *minimum;
    let report = case.report;
    let judged = [
        ("snp-tcb-reported", "reported", report.reported_tcb, reported),
        (
            "snp-tcb-committed",
            "committed",
            report.committed_tcb,
            committed.unwrap_or(reported),
        ),
        (
            "snp-tcb-launch",
            "launch",
            report.launch_tcb,
            launch.unwrap_or(reported),
        ),
        (
            "snp-tcb-current",
            "current",
            report.current_tcb,
            current.unwrap_or(reported),
        ),
    ];
    let old = |(check, name, found, minimum): (&str, &str, Tcb, Levels)| {
        let found = found.levels(case.vek.generation);
        let below = found.below(minimum);
        let what = format!("the {name} TCB is too old: {}", below.join(", "));
        (!below.is_empty()).then(|| {
            Finding::new(check, case.who, what, FIRMWARE)
                .expected(format!("at least {minimum}"))
                .found(found.to_string())
        })
    };
    judged.into_iter().filter_map(old).collect()
}
