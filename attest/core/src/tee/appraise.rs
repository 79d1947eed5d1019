//! *Appraise* for a TEE: a section in the policy demands its environment, and judges it. A machine without any section is judged
//! by its TPM alone, whatever it sends here.

use super::snp::{self, appraise as judge_snp};
use super::tdx::{self, appraise as judge_tdx};
use super::verify::{Content, Freshness, VerifiedTee};
use super::{Origin, TeeKind, TeeProvider};
use crate::finding::Finding;

const POLICY: &str = "if this is wanted, name it in the policy; else treat the machine as not yours";

/// The sections of an image that demand an environment. With both, either will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections<'a> {
    /// `[image.snp]`.
    pub snp: Option<&'a snp::Policy>,
    /// `[image.tdx]`.
    pub tdx: Option<&'a tdx::Policy>,
}

/// What both sections have.
#[derive(Clone, Copy)]
struct Common {
    accept_file_provider: bool,
    allow_boot_time_report: bool,
    allow_unchecked_revocation: bool,
}

/// Judges what node `who` has shown; an empty list affirms it.
pub fn appraise(who: &str, tee: Option<&VerifiedTee>, sections: Sections<'_>) -> Vec<Finding> {
    let Some(tee) = tee else {
        return tee_is_there(who, sections).into_iter().collect();
    };
    match (&tee.content, sections) {
        (_, Sections { snp: None, tdx: None }) => vec![],
        (Content::Snp(report, vek), Sections { snp: Some(policy), .. }) => {
            let rules = Common {
                accept_file_provider: policy.accept_file_provider,
                allow_boot_time_report: policy.allow_boot_time_report,
                allow_unchecked_revocation: policy.allow_unchecked_revocation,
            };
            let mut findings = common(who, tee, vek.crl.is_some(), rules);
            findings.extend(judge_snp::appraise(who, report, vek, policy));
            findings
        }
        (Content::Tdx(quote), Sections { tdx: Some(policy), .. }) => {
            let rules = Common {
                accept_file_provider: policy.accept_file_provider,
                allow_boot_time_report: false,
                allow_unchecked_revocation: policy.allow_unchecked_revocation,
            };
            let mut findings = common(who, tee, quote.revocation_checked, rules);
            findings.extend(judge_tdx::appraise(who, quote, policy));
            findings
        }
        _ => vec![kind_is_demanded(who, tee.kind(), sections)],
    }
}

fn names(sections: Sections<'_>) -> String {
    let snp = sections.snp.map(|_| TeeKind::SevSnp.name());
    let tdx = sections.tdx.map(|_| TeeKind::Tdx.name());
    snp.into_iter().chain(tdx).collect::<Vec<_>>().join(" or ")
}

fn tee_is_there(who: &str, sections: Sections<'_>) -> Option<Finding> {
    let demanded = names(sections);
    let what = "the policy demands a TEE's report, and the node sent none";
    let remedy =
        "start the machine as a confidential guest, or see on the node why there is no report (rempart doctor)";
    (!demanded.is_empty()).then(|| Finding::new("tee", who, what, remedy).expected(demanded).found("none"))
}

fn kind_is_demanded(who: &str, kind: TeeKind, sections: Sections<'_>) -> Finding {
    let what = "the policy demands another TEE than the node has";
    Finding::new("tee", who, what, POLICY)
        .expected(names(sections))
        .found(kind.name())
}

fn common(who: &str, tee: &VerifiedTee, revocation_checked: bool, rules: Common) -> Vec<Finding> {
    let checks = [
        root_is_a_vendors(who, tee, rules),
        provider_is_a_device(who, tee, rules),
        report_is_of_this_exchange(who, tee, rules),
        revocation_was_checked(revocation_checked, rules),
    ];
    checks.into_iter().flatten().collect()
}

fn root_is_a_vendors(who: &str, tee: &VerifiedTee, rules: Common) -> Option<Finding> {
    let what = "the report's chain ends in a root of the Verifier's own and not in the vendor's: it proves no hardware";
    let good = tee.origin == Origin::Vendor || rules.accept_file_provider;
    (!good).then(|| Finding::new("tee-test-root", who, what, POLICY))
}

/// A file is accepted only by name, and only under a test root: a vendor's report out of a file is somebody else's.
fn provider_is_a_device(who: &str, tee: &VerifiedTee, rules: Common) -> Option<Finding> {
    if tee.provider != TeeProvider::File {
        return None;
    }
    let what = match (rules.accept_file_provider, tee.origin) {
        (true, Origin::Extra) => return None,
        (false, _) => "the report comes from a file and not from a device",
        (true, Origin::Vendor) => "a vendor's report comes from a file, which is for tests under a test root only",
    };
    Some(Finding::new("tee-file-provider", who, what, POLICY))
}

fn report_is_of_this_exchange(who: &str, tee: &VerifiedTee, rules: Common) -> Option<Finding> {
    let what = "the hardware report was made at boot and not for this challenge; only the virtual TPM's quote is fresh";
    let good = tee.freshness == Freshness::Report || rules.allow_boot_time_report;
    (!good).then(|| Finding::new("tee-boot-time-report", who, what, POLICY))
}

fn revocation_was_checked(checked: bool, rules: Common) -> Option<Finding> {
    let what = "nobody held the report's chain against the vendor's revocation list";
    let remedy = "let the Verifier reach the vendor's service, or bring a revocation list to its endorsements";
    let good = checked || rules.allow_unchecked_revocation;
    (!good).then(|| Finding::new("tee-crl-missing", "verifier", what, remedy))
}
