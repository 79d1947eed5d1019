//! *Verify* for a TEE's part of Evidence: an authentic key, an authentic report, and REPORT_DATA that is ours. Pure: what the vendor
//! says of the key comes in as [`Endorsements`], which a Verifier gathers and keeps.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::snp::{self, VerifiedVek};
use super::tdx::{self, VerifiedQuote};
use super::vtpm::{self, UserData};
use super::{Origin, Roots, TeeKind, TeeProvider};
use crate::bytes::Fixed;
use crate::evidence::TeeEvidence;
use crate::finding::Finding;

const RELEASE: &str = "bring node and Verifier to the same release";
const RETRY: &str = "nothing to do if the next attempt succeeds; if it does not, look at the node";

/// What is known of a report's key from elsewhere than the report. The default knows nothing and trusts the vendors' roots alone.
#[derive(Clone, Debug, Default)]
pub struct Endorsements {
    /// The key of an SNP report, or why there is none.
    pub snp: Vek,
    /// Roots of TDX quotes, whose certificates travel in the quote.
    pub roots: Arc<Roots>,
    /// Intel's word on TDX platforms.
    pub tdx: Arc<tdx::Collateral>,
}

/// The key of an SNP report.
#[derive(Clone, Debug, Default)]
pub enum Vek {
    /// Nobody has asked for one.
    #[default]
    None,
    /// AMD endorsed it.
    Verified(Arc<VerifiedVek>),
    /// There is none that counts, and this is why; `who` is whoever misbehaved, so that a node is not blamed for a stale list.
    Refused(Finding),
}

/// A TEE's report that is authentic and bound to this exchange, or whose key is ([`Freshness::Quote`]). Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedTee {
    /// By which way it was had: the node's word, except for [`TeeProvider::VtpmNv`].
    pub provider: TeeProvider,
    /// Who stands behind the root that endorsed it.
    pub origin: Origin,
    /// What makes it this exchange's.
    pub freshness: Freshness,
    /// What it says.
    pub content: Content,
}

/// What a report says, by environment.
#[derive(Clone, Debug)]
pub enum Content {
    /// SEV-SNP: the report and its key.
    Snp(Box<snp::Report>, Arc<VerifiedVek>),
    /// TDX.
    Tdx(Box<VerifiedQuote>),
}

/// What makes a report this exchange's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// It holds the binding's digest.
    Report,
    /// It names the AK, and the AK's quote holds the digest. The report itself may be as old as the boot.
    Quote,
}

/// A verified TEE in a few words, for an Attestation Result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which environment.
    pub kind: TeeKind,
    /// The way to the report.
    pub provider: TeeProvider,
    /// What makes it this exchange's.
    pub freshness: Freshness,
    /// Generation of the processor, for SNP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<snp::Generation>,
    /// Launch measurement or MRTD, hex.
    pub measurement: String,
    /// Patch levels that the signing key was derived from, or TEE_TCB_SVN.
    pub tcb: String,
    /// Whether the root is the Verifier's own and not the vendor's.
    pub test_root: bool,
}

impl VerifiedTee {
    /// Which environment.
    pub fn kind(&self) -> TeeKind {
        match self.content {
            Content::Snp(..) => TeeKind::SevSnp,
            Content::Tdx(_) => TeeKind::Tdx,
        }
    }

    /// For an Attestation Result.
    pub fn summary(&self) -> Summary {
        let (generation, measurement, tcb) = match &self.content {
            Content::Snp(report, vek) => (
                Some(vek.generation),
                report.measurement.to_string(),
                report.reported_tcb.levels(vek.generation).to_string(),
            ),
            Content::Tdx(quote) => (None, quote.body.mr_td.to_string(), quote.body.tee_tcb_svn.to_string()),
        };
        Summary {
            kind: self.kind(),
            provider: self.provider,
            freshness: self.freshness,
            generation,
            measurement,
            tcb,
            test_root: self.origin == Origin::Extra,
        }
    }
}

/// Verifies `tee` of node `who`: the report must hold `binding` (all 64 bytes of the binding's digest) and is endorsed as
/// `endorsements` say, at `now` (Unix seconds). `ak_spki` is the AK's SubjectPublicKeyInfo (DER), which a paravisor names.
pub fn verify(
    who: &str,
    tee: &TeeEvidence,
    binding: &Fixed<64>,
    ak_spki: &[u8],
    endorsements: &Endorsements,
    now: u64,
) -> Result<VerifiedTee, Vec<Finding>> {
    let exchange = Exchange {
        who,
        tee,
        binding,
        ak_spki,
    };
    provider_fits(who, tee).map_err(|f| vec![f])?;
    match tee.kind {
        TeeKind::SevSnp => verify_snp(&exchange, endorsements, now),
        TeeKind::Tdx => verify_tdx(&exchange, endorsements, now),
    }
}

struct Exchange<'a> {
    who: &'a str,
    tee: &'a TeeEvidence,
    binding: &'a Fixed<64>,
    ak_spki: &'a [u8],
}

fn verify_snp(exchange: &Exchange<'_>, endorsements: &Endorsements, now: u64) -> Result<VerifiedTee, Vec<Finding>> {
    let who = exchange.who;
    let mut findings = Vec::new();
    let report = snp::Report::parse(&exchange.tee.report.0)
        .map_err(|e| findings.push(Finding::new("snp-report", who, e.to_string(), RELEASE)));
    let vek = match &endorsements.snp {
        Vek::Verified(vek) => Some(vek.clone()),
        Vek::Refused(finding) => {
            findings.push(finding.clone());
            None
        }
        Vek::None => {
            let what = "the Verifier has no endorsement by AMD for the key of this report";
            let remedy = "let the host supply its certificates, or give the Verifier endorsements (offline or kds)";
            findings.push(Finding::new("snp-endorsement", "verifier", what, remedy));
            None
        }
    };
    if let (Ok(report), Some(vek)) = (&report, &vek) {
        findings.extend(snp::verify(who, report, vek, now));
    }
    let freshness = report.as_ref().ok().map(|r| is_bound(exchange, &r.report_data));
    match (report, vek, freshness) {
        (Ok(report), Some(vek), Some(Ok(freshness))) if findings.is_empty() => Ok(VerifiedTee {
            provider: exchange.tee.provider,
            origin: vek.origin,
            freshness,
            content: Content::Snp(Box::new(report), vek),
        }),
        (_, _, freshness) => {
            findings.extend(freshness.and_then(Result::err));
            Err(findings)
        }
    }
}

fn verify_tdx(exchange: &Exchange<'_>, endorsements: &Endorsements, now: u64) -> Result<VerifiedTee, Vec<Finding>> {
    let who = exchange.who;
    let quote = tdx::Quote::parse(&exchange.tee.report.0)
        .map_err(|e| vec![Finding::new("tdx-quote", who, e.to_string(), RELEASE)])?;
    let freshness = is_bound(exchange, &quote.body.report_data);
    let verified = tdx::verify(who, &quote, &endorsements.roots, &endorsements.tdx, now);
    match (verified, freshness) {
        (Ok(verified), Ok(freshness)) => Ok(VerifiedTee {
            provider: exchange.tee.provider,
            origin: verified.origin,
            freshness,
            content: Content::Tdx(Box::new(verified)),
        }),
        (verified, freshness) => {
            let mut findings = verified.err().unwrap_or_default();
            findings.extend(freshness.err());
            Err(findings)
        }
    }
}

/// Ways and environments that do not go together, and parts that a way does not have.
fn provider_fits(who: &str, tee: &TeeEvidence) -> Result<(), Finding> {
    let fail = |what: String| Err(Finding::new("tee-provider", who, what, RELEASE));
    match (tee.kind, tee.provider) {
        (TeeKind::Tdx, TeeProvider::SevGuest | TeeProvider::VtpmNv) => fail(format!(
            "a TDX quote does not come by {}: such a machine holds a TDREPORT, which only its own host can check",
            tee.provider
        )),
        (_, TeeProvider::VtpmNv) => Ok(()),
        _ if !tee.runtime_data.0.is_empty() => fail(format!(
            "runtime data has no meaning in a report that comes by {}",
            tee.provider
        )),
        _ => Ok(()),
    }
}

/// REPORT_DATA is the binding's digest, or that of runtime data which names the AK.
fn is_bound(exchange: &Exchange<'_>, report_data: &Fixed<64>) -> Result<Freshness, Finding> {
    let Exchange {
        who,
        tee,
        binding,
        ak_spki,
    } = *exchange;
    if tee.provider == TeeProvider::VtpmNv {
        let user_data = vtpm::check(who, report_data, &tee.runtime_data.0, ak_spki, binding)?;
        return Ok(match user_data {
            UserData::Binding => Freshness::Report,
            UserData::Other => Freshness::Quote,
        });
    }
    if report_data == binding {
        return Ok(Freshness::Report);
    }
    let what = "the report's REPORT_DATA is not bound to this challenge, key, AK, boot and TLS connection";
    Err(Finding::new("tee-report-data", who, what, RETRY)
        .expected(binding.to_string())
        .found(report_data.to_string()))
}
