//! systemd's own signed report (systemd 262, `io.systemd.Report.GenerateSigned`): what the service manager and its helpers say of the
//! machine, with the TPM's word that they said it in this boot and over which registers.
//!
//! Its form, understood from the programs that write it: a JSON text sequence (RFC 7464) whose first record is the report, every
//! further one a signature over the SHA-256 of the first record's bytes, separator and newline included. A signature by mechanism
//! `tpm2` is a chain of attestations in one audit session of the TPM (TPM 2.0 Library Part 1, 19.6.5 "Audit Session"): a quote, one
//! TPM2_NV_Certify for each NvPCR, and TPM2_GetSessionAuditDigest over the report's digest. Structures stand there in the JSON form of
//! TCG's "TSS 2.0 JSON Data Types and Policy Language"; what was signed are their bytes, so they are marshalled again here.
//!
//! The report's own words are a claim of the measured software, as [`crate::GuardClaim`] is: whoever is root on the node may have any
//! text signed. What the TPM vouches for are the registers, the NvPCRs, the boot and the moment. Signatures by other mechanisms, the
//! vouchers beside a key and the event log in it are passed over and give no trust.
//!
//! Must never count a signature by another key than the AK of the same Evidence: a key that nobody enrolled says nothing.

/// The audit session's digest, from the commands that were audited.
mod audit;
/// JSON as a sender may not have written it: bounded, each name once.
mod json;
/// The file that gives systemd the AK.
mod key;
/// Records and which of them is what.
mod sequence;
/// TPM structures in TCG's JSON form.
mod tss;
/// Every check.
mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::{Blob, Fixed};
use crate::pcr::Digest;

pub use key::key_file;
pub use verify::{Against, ReportError, verify};

/// A register beside [`crate::pcr::QUOTED`] that systemd quotes too: the machine's identity. Its value is what systemd's log replays
/// to, and the quote says whether that is true.
pub const IDENTITY_PCR: u8 = 15;

/// A report that was verified: by the AK of the Evidence, in the same boot, a moment before its quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdReport {
    /// SHA-256 of the report's record, which is what the TPM signed.
    pub digest: Fixed<32>,
    /// How it is known to be of this round.
    pub freshness: Freshness,
    /// Registers of systemd's quote; those of them that are quoted in the Evidence have the same values.
    pub registers: Vec<u8>,
    /// PCR 15, when systemd quoted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Digest>,
    /// NvPCRs by the names that the node gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nvpcrs: BTreeMap<String, HeldNvPcr>,
    /// What the measured software says of itself, of the few things in [`FACTS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// What an NvPCR holds, as the TPM certified it. Which index is meant by a name, and that only systemd extended it, is the word of the
/// measured software: whoever is root may define an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldNvPcr {
    /// TPM_NV_INDEX.
    pub index: u32,
    /// Its contents.
    pub value: Digest,
}

/// How a report is known to be of this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// It carries this round's binding as nonce (later than systemd 262), and [`Freshness::Clock`] holds as well.
    Nonce,
    /// The TPM's clock stood, within one boot, at most [`crate::limits::SYSTEMD_REPORT_AGE`] before the quote of this round.
    Clock,
}

/// Metrics that are shown in a result. Names of machines and people are not among them.
pub const FACTS: [&str; 3] = [
    "io.systemd.Basic.ConfidentialVirtualization",
    "io.systemd.Basic.KernelVersion",
    "io.systemd.Basic.Virtualization",
];

/// Metrics that a node asks systemd for: [`FACTS`], and the boot.
pub const METRICS: [&str; 4] = [FACTS[0], FACTS[1], FACTS[2], BOOT_ID];
/// The metric that names the boot: it must be the one that the binding covers.
const BOOT_ID: &str = "io.systemd.Basic.BootID";

/// Whether the report has a signature that names the AK with this id ([`crate::ak::key_id`]), for a node that wants to say early that systemd signs with another key. Nothing
/// is verified.
pub fn names_key(bytes: &[u8], ak: &Fixed<32>) -> Result<bool, ReportError> {
    let report = sequence::parse(bytes)?;
    Ok(report.signatures.iter().any(|s| s.key.key().id() == *ak))
}

/// Reads and marshals every structure of a report and judges nothing: for fuzzing. Gives what was marshalled.
pub fn structures(bytes: &[u8]) -> Result<Vec<Blob>, ReportError> {
    let report = sequence::parse(bytes)?;
    let parts = report.signatures.into_iter().flat_map(|s| s.components);
    Ok(parts.flat_map(|c| [Blob(c.attest), Blob(c.signature)]).collect())
}

/// Parts of the way, for reports that tests make.
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing {
    use serde_json::Value;

    use super::{audit, sequence, tss};
    use crate::tpm::Hash;

    /// TPMS_ATTEST of its JSON form; `None` when it has none.
    pub(crate) fn attest(json: &Value) -> Option<Vec<u8>> {
        let text = json.to_string();
        serde_json::from_str::<tss::Attest<'_>>(&text).ok()?.marshal().ok()
    }

    /// What the audit session of a signature's data comes to.
    pub(crate) fn session_digest(data: &Value) -> Option<Vec<u8>> {
        let signature = sequence::data(&data.to_string())?;
        audit::digest(Hash::Sha256, signature.key.name(), &signature.components)
    }
}

#[cfg(test)]
mod tests;
