//! The records of a report (RFC 7464). A JSON text holds no separator byte as such, so there is one way to cut; the first record's
//! bytes, from its separator to the byte before the next one, are what was signed.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::ReportError;
use super::json::{Bounded, Hex, Text, Value};
use super::tss::{Attest, NvPublic, Public, Signature, Unknown};
use crate::bytes::{Fixed, sha256};
use crate::limits;
use crate::tpm::AkPublic;

const SEPARATOR: u8 = 0x1e;
const REPORT: &str = "application/vnd.io.systemd.report";
const SIGNATURE: &str = "application/vnd.io.systemd.report.signature";
const MECHANISM: &str = "tpm2";

/// A report in its parts.
#[derive(Debug)]
pub(super) struct Report {
    /// SHA-256 of the first record.
    pub digest: Fixed<32>,
    pub nonce: Option<Vec<u8>>,
    /// Metrics without further fields whose value is text.
    pub facts: Vec<(String, String)>,
    /// Signatures by a TPM, whoever's.
    pub signatures: Vec<TpmSignature>,
}

/// One signature by a TPM, marshalled.
#[derive(Debug)]
pub(super) struct TpmSignature {
    /// What the record says it signs.
    pub sha256: Vec<u8>,
    pub key: AkPublic,
    pub components: Vec<Component>,
}

/// One attestation of a signature.
#[derive(Debug)]
pub(super) struct Component {
    pub kind: Kind,
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// What an attestation says it is.
#[derive(Debug)]
pub(super) enum Kind {
    Pcr,
    NvPcr(NvPcr),
    SessionAudit {
        /// TPM_ALG_ID of the session's digest.
        hash: u16,
    },
}

/// What comes with the certification of an NvPCR.
#[derive(Debug)]
pub(super) struct NvPcr {
    pub name: String,
    /// TPM_NV_INDEX.
    pub index: u32,
    /// TPMS_NV_PUBLIC.
    pub public: Vec<u8>,
    /// TPM_ALG_ID of its Name.
    pub name_alg: u16,
    pub attributes: u32,
    pub data_size: u16,
    /// What the certification's qualifyingData is a digest of.
    pub authenticated: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    media_type: Text<'a>,
    #[serde(borrow, default)]
    nonce: Option<Text<'a>>,
    #[serde(borrow)]
    metrics: Bounded<Metric<'a>, { limits::SYSTEMD_METRICS }>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    value: Value,
    #[serde(default)]
    object: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fields: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    media_type: Text<'a>,
    #[serde(borrow)]
    mechanism: Text<'a>,
}

#[derive(Deserialize)]
struct Record<'a> {
    sha256: Hex,
    #[serde(borrow)]
    data: Data<'a>,
}

// Later releases add fields (a voucher, an event log, PEM forms): what is not marshalled is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    public_key: Public<'a>,
    #[serde(borrow)]
    components: Bounded<Part<'a>, { limits::SYSTEMD_COMPONENTS }>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    attest_info: AttestInfo<'a>,
    #[serde(borrow)]
    signature: Signature<'a>,
    #[serde(rename = "nvpcrName", borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    nv_public: Option<NvPublic<'a>>,
    #[serde(borrow)]
    authenticated_data: Option<Text<'a>>,
    #[serde(borrow)]
    session_audit_hash_alg: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct AttestInfo<'a> {
    #[serde(borrow)]
    attest: Attest<'a>,
}

#[derive(Deserialize)]
struct Authenticated<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// Cuts and reads a whole report.
pub(super) fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
    if bytes.len() > limits::SYSTEMD_REPORT {
        return Err(ReportError::TooLarge { found: bytes.len() });
    }
    let malformed = |record, why: String| ReportError::Malformed { record, why };
    let Some((SEPARATOR, rest)) = bytes.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(malformed(1, "it does not begin with a record separator".into()));
    };
    let mut report = None;
    for (at, record) in rest.split(|byte| *byte == SEPARATOR).enumerate() {
        let number = at + 1;
        if number > limits::SYSTEMD_RECORDS {
            return Err(malformed(number, "there are too many records".into()));
        }
        // A cut record has no newline (RFC 7464, 2.4).
        let Some(text) = record.strip_suffix(b"\n") else {
            return Err(malformed(number, "it does not end with a newline".into()));
        };
        let failed = |e: serde_json::Error| malformed(number, e.to_string());
        match &mut report {
            None => {
                let body: Body<'_> = serde_json::from_slice(text).map_err(failed)?;
                report = Some(body.read(sha256(&bytes[..record.len() + 1]))?);
            }
            Some(report) => {
                let head: Head<'_> = serde_json::from_slice(text).map_err(failed)?;
                if head.media_type.0 != SIGNATURE {
                    return Err(malformed(number, "it is no signature".into()));
                }
                if head.mechanism.0 == MECHANISM {
                    let record: Record<'_> = serde_json::from_slice(text).map_err(failed)?;
                    report.signatures.extend(record.read(number)?);
                }
            }
        }
    }
    report.ok_or_else(|| malformed(1, "there is no record".into()))
}

/// A signature's data alone.
#[cfg(any(test, feature = "testing"))]
pub(super) fn data(text: &str) -> Option<TpmSignature> {
    let record = Record {
        sha256: Hex::default(),
        data: serde_json::from_str(text).ok()?,
    };
    record.read(0).ok()?
}

impl Body<'_> {
    fn read(self, digest: Fixed<32>) -> Result<Report, ReportError> {
        let malformed = |why: &str| ReportError::Malformed {
            record: 1,
            why: why.into(),
        };
        if self.media_type.0 != REPORT {
            return Err(malformed("it is no report"));
        }
        let nonce = self.nonce.map(|text| BASE64_STANDARD.decode(text.0.as_bytes()));
        let plain = |m: Metric<'_>| match (m.value, m.object, m.fields) {
            (Value::Text(text), None, None) => Some((m.name.0.into_owned(), text)),
            _ => None,
        };
        Ok(Report {
            digest,
            nonce: nonce.transpose().map_err(|_| malformed("its nonce is not base64"))?,
            facts: self.metrics.0.into_iter().filter_map(plain).collect(),
            signatures: Vec::new(),
        })
    }
}

impl Record<'_> {
    /// None for a key that could not be an AK: a foreign signature, as by another mechanism.
    fn read(self, record: usize) -> Result<Option<TpmSignature>, ReportError> {
        let unknown = |Unknown(what)| ReportError::Malformed {
            record,
            why: format!("its {what} is not what systemd writes there"),
        };
        let Ok(key) = self.data.public_key.marshal() else {
            return Ok(None);
        };
        let Ok(key) = AkPublic::parse(&key) else {
            return Ok(None);
        };
        let parts = self.data.components.0.into_iter().map(Part::read);
        Ok(Some(TpmSignature {
            sha256: self.sha256.0,
            key,
            components: parts.collect::<Result<_, _>>().map_err(unknown)?,
        }))
    }
}

impl Part<'_> {
    fn read(self) -> Result<Component, Unknown> {
        let kind = match (&*self.kind.0, self.name, self.nv_public, self.authenticated_data) {
            ("pcr", None, None, None) => Kind::Pcr,
            ("nvpcr", Some(name), Some(public), Some(authenticated)) => {
                let read: Authenticated<'_> =
                    serde_json::from_str(&authenticated.0).map_err(|_| Unknown("authenticatedData"))?;
                if read.name.0 != name.0 || name.0.len() > limits::SYSTEMD_NVPCR_NAME {
                    return Err(Unknown("nvpcrName"));
                }
                Kind::NvPcr(NvPcr {
                    name: name.0.into_owned(),
                    index: public.nv_index,
                    public: public.marshal()?,
                    name_alg: public.name_alg()?,
                    attributes: public.attributes,
                    data_size: public.data_size,
                    authenticated: authenticated.0.into_owned(),
                })
            }
            ("session-audit", None, None, None) => Kind::SessionAudit {
                // systemd 262 does not say it: then it is SHA-256.
                hash: super::tss::hash(self.session_audit_hash_alg.as_ref().map_or("SHA256", |alg| &alg.0))?,
            },
            _ => return Err(Unknown("component")),
        };
        Ok(Component {
            kind,
            attest: self.attest_info.attest.marshal()?,
            signature: self.signature.marshal()?,
        })
    }
}
