//! Intel's signed statements: TCB info for a kind of platform, and the identity of the quoting enclave for TDs (Provisioning
//! Certification Service, version 4). JSON of a fixed outer form: the signature covers the inner object's bytes as they stand.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use x509_parser::certificate::X509Certificate;

use super::tcb::{TcbInfo, TcbStatus};
use crate::bytes::Fixed;
use crate::certificate::{self, CertificateError};
use crate::limits;
use crate::tee::crl;
use crate::tee::roots::{Roots, Vouches, common_name};
use crate::tee::x509::{self, Algorithm};

const SIGNER: &str = "Intel SGX TCB Signing";
/// Hex digits of a P-256 signature.
const SIGNATURE: usize = 128;

/// What a Verifier keeps of Intel's words. The default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Collateral {
    /// Revocation lists (DER): the root's and the intermediates'.
    pub crls: Vec<Vec<u8>>,
    /// One statement for each kind of platform.
    pub tcb_infos: Vec<Statement>,
    /// On the quoting enclave.
    pub qe_identity: Option<Statement>,
}

/// A statement as it was had: the service's answer and the chain of its signer.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// `{"tcbInfo":{…},"signature":"…"}` or `{"enclaveIdentity":{…},"signature":"…"}`.
    pub json: Vec<u8>,
    /// PEM: signer, root.
    pub chain: Vec<u8>,
}

/// Why a statement does not count. The Verifier's operator is to blame, or whoever gave it to him.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CollateralError {
    /// Not the form that the service answers in.
    #[error("Intel's statement {0} cannot be read")]
    Malformed(&'static str),
    /// Its signer's chain.
    #[error("the signer of Intel's statement {what} does not count: {source}")]
    Signer {
        /// Which statement.
        what: &'static str,
        /// Why.
        source: CertificateError,
    },
    /// Signed by somebody else, or changed.
    #[error("Intel's statement {0} is not signed by its signer")]
    Signature(&'static str),
    /// Before issueDate or after nextUpdate.
    #[error("Intel's statement {what} counts from {from} to {to}, not now")]
    NotNow {
        /// Which statement.
        what: &'static str,
        /// issueDate.
        from: String,
        /// nextUpdate.
        to: String,
    },
    /// Of another kind than it was kept as.
    #[error("Intel's statement {0} is on something else")]
    Other(&'static str),
}

impl CollateralError {
    /// Name of the finding.
    pub fn check(&self) -> &'static str {
        match self {
            Self::NotNow { .. } => "tdx-collateral-stale",
            _ => "tdx-collateral",
        }
    }
}

/// Identity of a quoting enclave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeIdentity {
    id: String,
    issue_date: String,
    next_update: String,
    pub miscselect: Fixed<4>,
    pub miscselect_mask: Fixed<4>,
    pub attributes: Fixed<16>,
    pub attributes_mask: Fixed<16>,
    pub mrsigner: Fixed<32>,
    pub isvprodid: u16,
    pub tcb_levels: Vec<QeLevel>,
}

/// One age of a quoting enclave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeLevel {
    pub tcb: QeSvn,
    pub tcb_status: TcbStatus,
}

/// Its SVN.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct QeSvn {
    pub isvsvn: u16,
}

impl Collateral {
    /// The list that says it is `issuer`'s; it is verified by whoever asks.
    pub(crate) fn crl_of(&self, issuer: &X509Certificate<'_>) -> Option<&[u8]> {
        let is_its = |der: &&Vec<u8>| crl::parse(der).is_ok_and(|list| list.issuer() == issuer.subject());
        self.crls.iter().find(is_its).map(Vec::as_slice)
    }

    /// The statement on platforms of this kind; each is verified before it is asked what it is on.
    pub(crate) fn tcb_info(
        &self,
        fmspc: &Fixed<6>,
        roots: &Roots,
        now: u64,
    ) -> Result<Option<TcbInfo>, CollateralError> {
        const WHAT: &str = "TCB info";
        for statement in &self.tcb_infos {
            let info: TcbInfo = statement.verify(WHAT, "tcbInfo", roots, now)?;
            check_time(WHAT, &info.issue_date, &info.next_update, now)?;
            if info.id != "TDX" || info.version != 3 {
                return Err(CollateralError::Other(WHAT));
            }
            if info.fmspc == *fmspc {
                return Ok(Some(info));
            }
        }
        Ok(None)
    }

    /// The statement on the quoting enclave.
    pub(crate) fn qe_identity(&self, roots: &Roots, now: u64) -> Result<Option<QeIdentity>, CollateralError> {
        const WHAT: &str = "QE identity";
        let Some(statement) = &self.qe_identity else {
            return Ok(None);
        };
        let identity: QeIdentity = statement.verify(WHAT, "enclaveIdentity", roots, now)?;
        check_time(WHAT, &identity.issue_date, &identity.next_update, now)?;
        if identity.id == "TD_QE" {
            Ok(Some(identity))
        } else {
            Err(CollateralError::Other(WHAT))
        }
    }
}

impl Statement {
    fn verify<T: DeserializeOwned>(
        &self,
        what: &'static str,
        name: &str,
        roots: &Roots,
        now: u64,
    ) -> Result<T, CollateralError> {
        let malformed = CollateralError::Malformed(what);
        let (inner, signature) = self.parts(name).ok_or_else(|| malformed.clone())?;
        let signer_fails = |source| CollateralError::Signer { what, source };
        let ders = certificate::pem_to_ders(&self.chain).map_err(signer_fails)?;
        let [signer, root] = ders.as_slice() else {
            return Err(signer_fails(CertificateError::Malformed));
        };
        let signer = certificate::from_der(signer).map_err(signer_fails)?;
        let root = certificate::from_der(root).map_err(signer_fails)?;
        signer_is_intels(&signer, &root, roots, now).map_err(signer_fails)?;
        let key = &signer.public_key().subject_public_key.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(inner, &signature)
            .map_err(|_| CollateralError::Signature(what))?;
        serde_json::from_slice(inner).map_err(|_| malformed)
    }

    /// The inner object's bytes and the signature over them.
    fn parts(&self, name: &str) -> Option<(&[u8], Vec<u8>)> {
        if self.json.len() > limits::TEE_COLLATERAL {
            return None;
        }
        let head = format!("{{\"{name}\":");
        let inner = self
            .json
            .trim_ascii()
            .strip_prefix(head.as_bytes())?
            .strip_suffix(b"\"}")?;
        let (inner, signature) = inner.split_at_checked(inner.len().checked_sub(SIGNATURE)?)?;
        let inner = inner.strip_suffix(b",\"signature\":\"")?;
        Some((inner, hex::decode(signature).ok()?))
    }
}

fn signer_is_intels(
    signer: &X509Certificate<'_>,
    root: &X509Certificate<'_>,
    roots: &Roots,
    now: u64,
) -> Result<(), CertificateError> {
    if !matches!(roots.find(root), Some((Vouches::Tdx, _))) {
        return Err(CertificateError::UnknownIssuer {
            issuer: root.subject().to_string(),
        });
    }
    x509::check_link(Algorithm::Intel, root, root, now)?;
    x509::check_link(Algorithm::Intel, signer, root, now)?;
    certificate::check_itself(signer, now)?;
    match common_name(signer) {
        Some(SIGNER) => Ok(()),
        other => Err(CertificateError::Subject {
            found: other.unwrap_or_default().into(),
        }),
    }
}

fn check_time(what: &'static str, from: &str, to: &str, now: u64) -> Result<(), CollateralError> {
    let (begin, end) = (unix(from), unix(to));
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(CollateralError::Malformed(what));
    };
    if (begin..=end).contains(&now) {
        Ok(())
    } else {
        Err(CollateralError::NotNow {
            what,
            from: from.into(),
            to: to.into(),
        })
    }
}

/// Unix seconds of `YYYY-MM-DDTHH:MM:SSZ`, the only form in which Intel writes a time.
fn unix(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if bytes.len() != 20 || marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let sane = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sane || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod unix_tests {
    use super::unix;

    #[test]
    fn times_are_read_exactly_or_not_at_all() {
        assert_eq!(unix("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix("2000-02-29T23:59:59Z"), Some(951_868_799));
        assert_eq!(unix("2023-06-18T08:42:58Z"), Some(1_687_077_778));
        for bad in [
            "",
            "2023-06-18",
            "2023-13-18T08:42:58Z",
            "2023-06-18T08:42:58+",
            "1969-06-18T08:42:58Z",
            "202a-06-18T08:42:58Z",
        ] {
            assert_eq!(unix(bad), None, "{bad}");
        }
    }
}
