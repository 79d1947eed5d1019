//! A verified quote against `[image.tdx]`: each demand is a function with a finding of its own, and all of them run.

use super::chain::VerifiedQuote;
use super::policy::Policy;
use crate::bytes::Fixed;
use crate::finding::Finding;

const LAUNCH: &str = "launch the TD again as its owner wants it";
const FIRMWARE: &str = "have the host's operator update the platform";
const POLICY: &str = "if this is wanted, name it in the policy; else treat the machine as not yours";

/// TDATTRIBUTES (Intel TDX module ABI, 3.4.1).
mod attribute {
    /// Bits 7:0, TUD: the TD is untrusted; bit 0 is DEBUG.
    pub const UNTRUSTED: u64 = 0xff;
    /// Page faults on private memory do not reach the guest as exceptions.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    /// A service TD can migrate it.
    pub const MIGRATABLE: u64 = 1 << 29;
    /// Supervisor protection keys.
    pub const PKS: u64 = 1 << 30;
    /// Key locker.
    pub const KL: u64 = 1 << 31;
    /// Performance monitoring.
    pub const PERFMON: u64 = 1 << 63;
    /// Every bit with a meaning.
    pub const KNOWN: u64 = UNTRUSTED | SEPT_VE_DISABLE | MIGRATABLE | PKS | KL | PERFMON;
}

/// Judges a quote; an empty list affirms it.
pub(crate) fn appraise(who: &str, quote: &VerifiedQuote, policy: &Policy) -> Vec<Finding> {
    let case = Case { who, quote, policy };
    let mut findings: Vec<_> = CHECKS.iter().filter_map(|check| check(&case)).collect();
    findings.extend(registers_are_listed(&case));
    findings
}

struct Case<'a> {
    who: &'a str,
    quote: &'a VerifiedQuote,
    policy: &'a Policy,
}

type Check = fn(&Case<'_>) -> Option<Finding>;

/// Every demand with at most one finding.
const CHECKS: [Check; 9] = [
    debugging_is_off,
    attributes_are_known,
    sept_ve_is_disabled,
    not_migratable,
    perfmon_is_as_allowed,
    features_are_allowed,
    module_is_not_in_debug,
    svn_is_high_enough,
    age_is_accepted,
];

impl Case<'_> {
    fn has(&self, bits: u64) -> bool {
        self.quote.body.td_attributes & bits != 0
    }

    fn unless(&self, good: bool, check: &str, what: &str, remedy: &str) -> Option<Finding> {
        (!good).then(|| Finding::new(check, self.who, what, remedy))
    }
}

fn debugging_is_off(case: &Case<'_>) -> Option<Finding> {
    let what = "the host may read and write the TD's memory (it is launched as an untrusted TD)";
    case.unless(!case.has(attribute::UNTRUSTED), "tdx-debug", what, LAUNCH)
}

fn attributes_are_known(case: &Case<'_>) -> Option<Finding> {
    let strange = case.quote.body.td_attributes & !attribute::KNOWN;
    let what = "the TD has attributes that are not known here, so nobody can say what they allow";
    case.unless(strange == 0, "tdx-attributes", what, LAUNCH)
        .map(|f| f.found(format!("{strange:#x}")))
}

fn sept_ve_is_disabled(case: &Case<'_>) -> Option<Finding> {
    let what = "page faults on private memory reach the guest as exceptions, by which the host can lead its kernel";
    let good = case.policy.allow_sept_ve || case.has(attribute::SEPT_VE_DISABLE);
    case.unless(good, "tdx-sept-ve-disable", what, LAUNCH)
}

fn not_migratable(case: &Case<'_>) -> Option<Finding> {
    let bound = case.quote.body.mr_service_td.is_some_and(|m| m != Fixed::ZERO);
    let what = "the TD may be migrated by a service TD, which then holds its memory and keys";
    let good = case.policy.allow_migratable || !(case.has(attribute::MIGRATABLE) || bound);
    case.unless(good, "tdx-migratable", what, LAUNCH)
}

fn perfmon_is_as_allowed(case: &Case<'_>) -> Option<Finding> {
    let what = "the TD may use performance monitoring";
    let good = case.policy.allow_perfmon || !case.has(attribute::PERFMON);
    case.unless(good, "tdx-perfmon", what, LAUNCH)
}

fn features_are_allowed(case: &Case<'_>) -> Option<Finding> {
    let (allowed, found) = (case.policy.xfam_allowed?, case.quote.body.xfam);
    let what = "the TD has extended features that the policy does not allow";
    case.unless(found & !allowed == 0, "tdx-xfam", what, LAUNCH)
        .map(|f| f.expected(format!("within {allowed:#x}")).found(format!("{found:#x}")))
}

fn module_is_not_in_debug(case: &Case<'_>) -> Option<Finding> {
    let found = case.quote.body.seam_attributes;
    let what = "the TDX module has attributes of its own: it can be debugged, or is not known here";
    case.unless(found == 0, "tdx-seam-attributes", what, FIRMWARE)
        .map(|f| f.expected("0").found(format!("{found:#x}")))
}

fn svn_is_high_enough(case: &Case<'_>) -> Option<Finding> {
    let (want, found) = (case.policy.min_tee_tcb_svn?, case.quote.body.tee_tcb_svn);
    let good = found.0.iter().zip(want.0).all(|(have, want)| *have >= want);
    let what = "the TDX module is older than the policy accepts (TEE_TCB_SVN)";
    case.unless(good, "tdx-tee-tcb-svn", what, FIRMWARE)
        .map(|f| f.expected(format!("at least {want}")).found(found.to_string()))
}

fn age_is_accepted(case: &Case<'_>) -> Option<Finding> {
    let Some(evaluated) = &case.quote.tcb else {
        let what = "the Verifier has no statement of Intel on this platform's age";
        let remedy = "bring TCB info and QE identity to the Verifier's endorsements";
        let platform = format!("FMSPC {}", case.quote.platform.fmspc);
        return (!case.policy.allow_unchecked_tcb)
            .then(|| Finding::new("tdx-tcb-unchecked", "verifier", what, remedy).found(platform));
    };
    let what = "Intel's word on the platform's age is not one that the policy accepts";
    let good = case.policy.tcb_status.contains(&evaluated.status);
    case.unless(good, "tdx-tcb-status", what, FIRMWARE).map(|f| {
        f.expected(format!("{:?}", case.policy.tcb_status)).found(
            format!("{:?} {}", evaluated.status, evaluated.advisories.join(" "))
                .trim()
                .to_owned(),
        )
    })
}

/// Each register with a list of its own.
fn registers_are_listed(case: &Case<'_>) -> Vec<Finding> {
    let (body, policy) = (&case.quote.body, case.policy);
    let judged = [
        ("tdx-mrtd", "MRTD", body.mr_td, &policy.mrtd, true),
        ("tdx-rtmr0", "RTMR 0", body.rtmr[0], &policy.rtmr0, false),
        ("tdx-rtmr1", "RTMR 1", body.rtmr[1], &policy.rtmr1, false),
        ("tdx-rtmr2", "RTMR 2", body.rtmr[2], &policy.rtmr2, false),
        ("tdx-rtmr3", "RTMR 3", body.rtmr[3], &policy.rtmr3, false),
        (
            "tdx-mrconfigid",
            "MRCONFIGID",
            body.mr_config_id,
            &policy.mrconfigid,
            false,
        ),
        ("tdx-mrowner", "MROWNER", body.mr_owner, &policy.mrowner, false),
        (
            "tdx-mrownerconfig",
            "MROWNERCONFIG",
            body.mr_owner_config,
            &policy.mrownerconfig,
            false,
        ),
        ("tdx-mrseam", "MRSEAM", body.mr_seam, &policy.mrseam, false),
        (
            "tdx-mrsignerseam",
            "MRSIGNERSEAM",
            body.mr_signer_seam,
            &policy.mrsignerseam,
            true,
        ),
    ];
    let finding = |(check, name, found, list, demanded): (&str, &str, Fixed<48>, &Vec<Fixed<48>>, bool)| {
        if list.contains(&found) || (list.is_empty() && !demanded) {
            return None;
        }
        let expected: Vec<_> = list.iter().take(4).map(ToString::to_string).collect();
        let what = format!("the TD's {name} is none that the policy accepts");
        Some(
            Finding::new(check, case.who, what, POLICY)
                .expected(expected.join(" or "))
                .found(found.to_string()),
        )
    };
    judged.into_iter().filter_map(finding).collect()
}
