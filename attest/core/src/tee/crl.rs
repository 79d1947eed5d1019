//! Certificate revocation lists (RFC 5280, 5): signed by the authority that they speak for, fresh, and asked about serials.
//! A list is either all of this or nothing: there is no half-believed list.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::x509::{self, Algorithm};
use crate::limits;

/// How far the issuer's clock may be ahead of ours, seconds.
const SKEW: u64 = 300;

/// A list that counts at the time it was verified, and until [`Self::next_update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCrl {
    /// From when.
    pub this_update: u64,
    /// Until when.
    pub next_update: u64,
    serials: Vec<Vec<u8>>,
}

/// Why a list does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CrlError {
    /// Not one DER list within the limit, or without nextUpdate.
    #[error("the revocation list cannot be read")]
    Malformed,
    /// Speaks for another authority.
    #[error("the revocation list is by \"{found}\", not by \"{expected}\"")]
    Issuer {
        /// Whose it should be.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// Not signed by the authority.
    #[error("the revocation list is not signed by \"{0}\"")]
    Signature(String),
    /// Before thisUpdate.
    #[error("the revocation list is from the future ({0})")]
    Future(String),
    /// After nextUpdate.
    #[error("the revocation list was to be replaced by {0}")]
    Stale(String),
    /// A critical extension that is not understood.
    #[error("the revocation list has a critical extension {0} that is not understood")]
    Critical(String),
}

/// Reads one DER list that fills the buffer.
pub fn parse(der: &[u8]) -> Result<CertificateRevocationList<'_>, CrlError> {
    if der.len() > limits::CRL {
        return Err(CrlError::Malformed);
    }
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        _ => Err(CrlError::Malformed),
    }
}

/// Verifies `der` as a list by `issuer` at `now`.
pub(crate) fn verify(
    algorithm: Algorithm,
    der: &[u8],
    issuer: &X509Certificate<'_>,
    now: u64,
) -> Result<VerifiedCrl, CrlError> {
    let list = parse(der)?;
    let name = || issuer.subject().to_string();
    if list.issuer() != issuer.subject() {
        return Err(CrlError::Issuer {
            expected: name(),
            found: list.issuer().to_string(),
        });
    }
    let usage = issuer.key_usage().map_err(|_| CrlError::Malformed)?;
    let signed = x509::is_signed(
        algorithm,
        issuer.public_key(),
        &list.signature_algorithm,
        list.tbs_cert_list.as_ref(),
        &list.signature_value.data,
    );
    if !signed || !usage.is_some_and(|u| u.value.crl_sign()) {
        return Err(CrlError::Signature(name()));
    }
    check_extensions(&list)?;
    let (this_update, next_update) = check_time(&list, now)?;
    let revoked = list.iter_revoked_certificates();
    Ok(VerifiedCrl {
        this_update,
        next_update,
        serials: revoked.map(|r| trimmed(r.raw_serial()).to_vec()).collect(),
    })
}

/// A delta list or one for some reasons only has a critical extension that says so: it is no answer for us. So are indirect ones,
/// whose entries name another issuer.
fn check_extensions(list: &CertificateRevocationList<'_>) -> Result<(), CrlError> {
    let entries = list.iter_revoked_certificates().flat_map(|r| r.extensions());
    let strange = list.extensions().iter().chain(entries).find(|e| e.critical);
    strange.map_or(Ok(()), |e| Err(CrlError::Critical(e.oid.to_id_string())))
}

fn check_time(list: &CertificateRevocationList<'_>, now: u64) -> Result<(u64, u64), CrlError> {
    let (this, next) = (list.last_update(), list.next_update().ok_or(CrlError::Malformed)?);
    let seconds = |t: i64| u64::try_from(t).map_err(|_| CrlError::Malformed);
    let (from, until) = (seconds(this.timestamp())?, seconds(next.timestamp())?);
    if from > now.saturating_add(SKEW) {
        return Err(CrlError::Future(this.to_string()));
    }
    if until < now {
        return Err(CrlError::Stale(next.to_string()));
    }
    Ok((from, until))
}

impl VerifiedCrl {
    /// Whether the list names the certificate's serial.
    pub(crate) fn revokes(&self, certificate: &X509Certificate<'_>) -> bool {
        let serial = trimmed(certificate.raw_serial());
        self.serials.iter().any(|s| s == serial)
    }
}

/// A serial without leading zeros: DER has one where the first bit is set, some writers have more.
fn trimmed(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|b| **b == 0).count();
    &serial[zeros..]
}

/// The nextUpdate of a list that nobody has verified: when a keeper of lists should look for another.
pub fn claimed_next_update(der: &[u8]) -> Option<u64> {
    let next = parse(der).ok()?.next_update()?;
    u64::try_from(next.timestamp()).ok()
}
