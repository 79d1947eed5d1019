//! AMD SEV-SNP. Specifications: 56860 (firmware ABI: the report), 57230 (certificates), 56421 (GHCB: the host's table).
//! [`verify`] asks whether AMD's chip said this to us now; [`appraise`](appraise::appraise) whether we like what it said.

/// Verified reports against `[image.snp]`.
pub mod appraise;
/// Bit fields of the report.
pub mod bits;
/// From the signing key to AMD's root.
pub mod chain;
/// What AMD's certificates say of a key.
pub mod extensions;
mod generation;
/// `[image.snp]`.
mod policy;
mod report;
/// The host-supplied certificate table.
pub mod table;
/// Patch levels.
pub mod tcb;

pub use chain::{Certificates, ChainError, VerifiedVek};
pub use generation::Generation;
pub use policy::{Minimum, Policy};
pub use report::{LEN, Report, ReportError};
pub use tcb::{Levels, Tcb};

use crate::finding::Finding;

const HOST: &str = "the host withholds or mixes up the chip's certificates: give the Verifier the right ones (endorsements), or move the guest";
const HOSTILE: &str = "treat the node as hostile: no honest machine sends this";

/// Every check between an authentic key and an authentic report. That REPORT_DATA is the right one is checked where the provider
/// is known.
pub(crate) fn verify(who: &str, report: &Report, vek: &VerifiedVek, now: u64) -> Vec<Finding> {
    let checks = [
        chip_key_is_shown(who, report),
        key_is_of_the_signing_kind(who, report, vek),
        key_counts_now(vek, now),
        key_is_of_this_chip(who, report, vek),
        key_is_of_this_generation(who, report, vek),
        key_is_of_the_reported_tcb(who, report, vek),
        report_is_signed(who, report, vek),
    ];
    checks.into_iter().flatten().collect()
}

fn chip_key_is_shown(who: &str, report: &Report) -> Option<Finding> {
    let what = "the host has hidden the chip's key (MASK_CHIP_KEY), so the report has no signature";
    let remedy = "choose a host that lets its guests attest";
    report
        .keys
        .masked()
        .then(|| Finding::new("snp-mask-chip-key", who, what, remedy))
}

fn key_is_of_the_signing_kind(who: &str, report: &Report, vek: &VerifiedVek) -> Option<Finding> {
    let (said, given) = (report.keys.signing_key(), vek.holder.key());
    if said == Some(given) {
        return None;
    }
    let what = "the report says that another kind of key signed it than the one whose certificate came with it";
    let said = said.map_or("no key".into(), |key| key.to_string());
    Some(
        Finding::new("snp-signing-key", who, what, HOST)
            .expected(said)
            .found(given.to_string()),
    )
}

/// Renewal is the Verifier's business, so the node is not to blame.
fn key_counts_now(vek: &VerifiedVek, now: u64) -> Option<Finding> {
    let what = "the endorsement of the chip's key was verified long ago, and its certificates or revocation list have lapsed since";
    let remedy = "let the Verifier reach the vendor's service, or bring a fresh revocation list to its endorsements";
    (now > vek.valid_until).then(|| Finding::new("snp-endorsement-lapsed", "verifier", what, remedy))
}

fn key_is_of_this_chip(who: &str, report: &Report, vek: &VerifiedVek) -> Option<Finding> {
    // A VLEK belongs to no chip: nothing to compare, and `snp-vlek` asks whether the policy accepts that.
    let endorsed = vek.chip_id()?;
    if *endorsed == report.chip_id {
        return None;
    }
    let what = "the report's CHIP_ID is not the chip whose key AMD endorsed";
    Some(
        Finding::new("snp-chip-id", who, what, HOST)
            .expected(endorsed.to_string())
            .found(report.chip_id.to_string()),
    )
}

fn key_is_of_this_generation(who: &str, report: &Report, vek: &VerifiedVek) -> Option<Finding> {
    let [family, model, _] = report.cpuid?;
    let found = Generation::from_cpuid(family, model);
    if found == Some(vek.generation) {
        return None;
    }
    let what = "the report's processor is not of the generation that AMD endorsed its key for";
    let found = found.map_or(format!("family {family:#x}, model {model:#x}"), |g| g.to_string());
    Some(
        Finding::new("snp-generation", who, what, HOST)
            .expected(vek.generation.to_string())
            .found(found),
    )
}

fn key_is_of_the_reported_tcb(who: &str, report: &Report, vek: &VerifiedVek) -> Option<Finding> {
    if vek.tcb == report.reported_tcb {
        return None;
    }
    let what = "AMD endorsed the key for another TCB than the report says";
    let levels = |tcb: Tcb| tcb.levels(vek.generation).to_string();
    Some(
        Finding::new("snp-tcb-endorsed", who, what, HOST)
            .expected(levels(report.reported_tcb))
            .found(levels(vek.tcb)),
    )
}

fn report_is_signed(who: &str, report: &Report, vek: &VerifiedVek) -> Option<Finding> {
    let what = "the report was not signed by the endorsed key";
    (!report.is_signed_by(&vek.key)).then(|| Finding::new("snp-signature", who, what, HOSTILE))
}

#[cfg(test)]
mod tests;
