//! From a quote's signature to Intel's root: attestation key, quoting enclave, PCK, intermediate, root; and what Intel says of the
//! platform's age, where the Verifier has it.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;

use super::collateral::{Collateral, QeIdentity};
use super::pck::Pck;
use super::quote::{Body, QeReport, Quote};
use super::tcb::{self, TcbStatus};
use crate::bytes::sha256;
use crate::certificate::{self, CertificateError};
use crate::finding::Finding;
use crate::limits;
use crate::tee::crl::{self, CrlError};
use crate::tee::roots::{Origin, Roots, Vouches, common_name};
use crate::tee::x509::{self, Algorithm};

const HOSTILE: &str = "treat the node as hostile: no honest machine sends this";
const COLLATERAL: &str = "bring fresh statements of Intel to the Verifier's endorsements";
/// PCK, intermediate, root.
const CHAIN: usize = 3;
const LEAF: &str = "Intel SGX PCK Certificate";
/// MRSIGNER of Intel's quoting enclaves and ISVPRODID of the one for TDs. Any enclave with the provisioning right can be certified
/// by a PCK; only this signer's makes quotes.
pub(crate) const QE_SIGNER: &str = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5";
const QE_PRODUCT: u16 = 2;
/// SGX ATTRIBUTES, bit 1: DEBUG.
const QE_DEBUG: u8 = 2;

/// A quote that Intel's platform signed.
#[derive(Clone, Debug)]
pub struct VerifiedQuote {
    /// What the TDX module said of the TD.
    pub body: Body,
    /// Who stands behind the root.
    pub origin: Origin,
    /// Whether the chain was held against both revocation lists.
    pub revocation_checked: bool,
    /// What Intel says of the platform's age; `None`: the Verifier has no statement on this platform.
    pub tcb: Option<tcb::Evaluated>,
    /// The platform.
    pub platform: Pck,
}

/// Verifies a quote at `now` (Unix seconds).
pub fn verify(
    who: &str,
    quote: &Quote,
    roots: &Roots,
    collateral: &Collateral,
    now: u64,
) -> Result<VerifiedQuote, Vec<Finding>> {
    let one = |finding: Finding| vec![finding];
    let ders = certificate::pem_to_ders(trimmed(&quote.chain))
        .ok()
        .filter(|ders| ders.len() == CHAIN && quote.chain.len() <= CHAIN * limits::CERTIFICATE);
    let ders = ders.ok_or_else(|| one(chain_finding(who, &CertificateError::Malformed)))?;
    let parsed: Result<Vec<_>, _> = ders.iter().map(|der| certificate::from_der(der)).collect();
    let parsed = parsed.map_err(|e| one(chain_finding(who, &e)))?;
    let [pck, ca, root] = parsed.as_slice() else {
        return Err(one(chain_finding(who, &CertificateError::Malformed)));
    };
    let origin = root_is_ours(who, root, roots).map_err(one)?;
    let mut findings: Vec<_> = [
        links_hold(pck, ca, root, now).err().map(|e| chain_finding(who, &e)),
        qe_is_signed(who, quote, pck),
        qe_is_intels(who, &quote.qe),
        qe_commits_to_the_key(who, quote),
        quote_is_signed(who, quote),
    ]
    .into_iter()
    .flatten()
    .collect();
    let revocation = revocation(who, [pck, ca, root], collateral, now);
    let platform = platform(who, pck);
    let tcb = platform
        .as_ref()
        .ok()
        .map(|pck| judge_age(who, quote, pck, collateral, roots, now));
    match (revocation, platform, tcb) {
        (Ok(revocation_checked), Ok(platform), Some(Ok(tcb))) if findings.is_empty() => Ok(VerifiedQuote {
            body: quote.body.clone(),
            origin,
            revocation_checked,
            tcb,
            platform,
        }),
        (revocation, platform, tcb) => {
            findings.extend(revocation.err());
            findings.extend(platform.err());
            findings.extend(tcb.and_then(Result::err));
            Err(findings)
        }
    }
}

/// The PEM text may end in zeros.
fn trimmed(pem: &[u8]) -> &[u8] {
    let zeros = pem.iter().rev().take_while(|b| **b == 0).count();
    &pem[..pem.len() - zeros]
}

fn chain_finding(who: &str, error: &CertificateError) -> Finding {
    Finding::new(
        "tdx-chain",
        who,
        format!("the PCK's certificate chain does not count: {error}"),
        HOSTILE,
    )
}

fn root_is_ours(who: &str, root: &X509Certificate<'_>, roots: &Roots) -> Result<Origin, Finding> {
    match roots.find(root) {
        Some((Vouches::Tdx, origin)) => Ok(origin),
        Some((Vouches::Snp(_), _)) | None => {
            let what = "the root of the PCK's chain is not Intel's and none of the Verifier's own";
            Err(Finding::new("tdx-root", who, what, HOSTILE).found(root.subject().to_string()))
        }
    }
}

fn links_hold(
    pck: &X509Certificate<'_>,
    ca: &X509Certificate<'_>,
    root: &X509Certificate<'_>,
    now: u64,
) -> Result<(), CertificateError> {
    x509::check_link(Algorithm::Intel, root, root, now)?;
    x509::check_link(Algorithm::Intel, ca, root, now)?;
    x509::check_link(Algorithm::Intel, pck, ca, now)?;
    certificate::check_itself(pck, now)?;
    match common_name(pck) {
        Some(LEAF) => Ok(()),
        other => Err(CertificateError::Subject {
            found: other.unwrap_or_default().into(),
        }),
    }
}

fn qe_is_signed(who: &str, quote: &Quote, pck: &X509Certificate<'_>) -> Option<Finding> {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &pck.public_key().subject_public_key.data);
    let good = key.verify(&quote.qe_report, &quote.qe_signature).is_ok();
    let what = "the quoting enclave's report was not signed by the platform's PCK";
    (!good).then(|| Finding::new("tdx-qe-signature", who, what, HOSTILE))
}

fn qe_is_intels(who: &str, qe: &QeReport) -> Option<Finding> {
    let good =
        qe.mr_signer.to_string() == QE_SIGNER && qe.isv_prod_id == QE_PRODUCT && qe.attributes[0] & QE_DEBUG == 0;
    let what =
        "the quote was not made by Intel's quoting enclave for TDs: another enclave, or one that can be debugged";
    (!good).then(|| {
        Finding::new("tdx-qe", who, what, HOSTILE)
            .expected(format!("{QE_SIGNER}, product {QE_PRODUCT}"))
            .found(format!("{}, product {}", qe.mr_signer, qe.isv_prod_id))
    })
}

fn qe_commits_to_the_key(who: &str, quote: &Quote) -> Option<Finding> {
    let digest = sha256(&[quote.attestation_key.as_slice(), &quote.qe_auth_data].concat());
    let (low, high) = quote.qe.report_data.0.split_at(32);
    let good = low == digest.0 && high.iter().all(|b| *b == 0);
    let what = "the quoting enclave's report does not commit to the key that signed the quote";
    (!good).then(|| Finding::new("tdx-qe-report-data", who, what, HOSTILE))
}

fn quote_is_signed(who: &str, quote: &Quote) -> Option<Finding> {
    let mut point = [4; 65];
    point[1..].copy_from_slice(&quote.attestation_key);
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let good = key.verify(&quote.signed, &quote.signature).is_ok();
    let what = "the quote was not signed by its attestation key: something in it was changed";
    (!good).then(|| Finding::new("tdx-signature", who, what, HOSTILE))
}

/// Both lists, where both are there. A list that is there must count.
fn revocation(
    who: &str,
    [pck, ca, root]: [&X509Certificate<'_>; 3],
    collateral: &Collateral,
    now: u64,
) -> Result<bool, Finding> {
    let mut checked = 0;
    for (issuer, subjects) in [(root, [ca, root]), (ca, [pck, pck])] {
        let Some(list) = collateral.crl_of(issuer) else {
            continue;
        };
        let list = crl::verify(Algorithm::Intel, list, issuer, now).map_err(|e| {
            let check = if matches!(e, CrlError::Stale(_)) {
                "tdx-crl-stale"
            } else {
                "tdx-crl"
            };
            Finding::new(check, "verifier", e.to_string(), COLLATERAL)
        })?;
        if let Some(revoked) = subjects.into_iter().find(|c| list.revokes(c)) {
            let what = format!("Intel has revoked the certificate of \"{}\"", revoked.subject());
            return Err(Finding::new("tdx-revoked", who, what, HOSTILE));
        }
        checked += 1;
    }
    Ok(checked == 2)
}

fn platform(who: &str, pck: &X509Certificate<'_>) -> Result<Pck, Finding> {
    let what = "the PCK certificate does not say which platform it is for";
    Pck::read(pck).ok_or_else(|| Finding::new("tdx-pck", who, what, HOSTILE))
}

/// Holds platform and quoting enclave against Intel's statements; `None` where there is none on this platform.
fn judge_age(
    who: &str,
    quote: &Quote,
    pck: &Pck,
    collateral: &Collateral,
    roots: &Roots,
    now: u64,
) -> Result<Option<tcb::Evaluated>, Finding> {
    let own = |e: super::collateral::CollateralError| Finding::new(e.check(), "verifier", e.to_string(), COLLATERAL);
    let info = collateral.tcb_info(&pck.fmspc, roots, now).map_err(own)?;
    let identity = collateral.qe_identity(roots, now).map_err(own)?;
    let (Some(info), Some(identity)) = (info, identity) else {
        return Ok(None);
    };
    let mut evaluated = tcb::evaluate(&info, &quote.body, pck)
        .map_err(|e| Finding::new("tdx-tcb-unknown", who, e.to_string(), COLLATERAL))?;
    let enclave = qe_age(who, &quote.qe, &identity)?;
    evaluated.status = evaluated.status.worst(enclave);
    Ok(Some(evaluated))
}

fn qe_age(who: &str, qe: &QeReport, identity: &QeIdentity) -> Result<TcbStatus, Finding> {
    let masked = |bytes: &[u8], mask: &[u8], want: &[u8]| {
        bytes.len() == want.len()
            && bytes
                .iter()
                .zip(mask)
                .zip(want)
                .all(|((have, mask), want)| have & mask == want & mask)
    };
    let good = masked(&qe.misc_select, &identity.miscselect_mask.0, &identity.miscselect.0)
        && masked(&qe.attributes, &identity.attributes_mask.0, &identity.attributes.0)
        && qe.mr_signer == identity.mrsigner
        && qe.isv_prod_id == identity.isvprodid;
    let what = "the quoting enclave is not the one that Intel describes";
    if !good {
        return Err(Finding::new("tdx-qe-identity", who, what, HOSTILE));
    }
    let level = identity.tcb_levels.iter().find(|level| qe.isv_svn >= level.tcb.isvsvn);
    let what = "the quoting enclave is older than any that Intel describes";
    level.map_or_else(
        || Err(Finding::new("tdx-qe-identity", who, what, HOSTILE)),
        |level| Ok(level.tcb_status),
    )
}
