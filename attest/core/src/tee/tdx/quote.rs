//! A TD quote of version 4, or of version 5 with a TD 1.0 or 1.5 body, under an ECDSA P-256 attestation key with certification data
//! of type 6 (quoting enclave's report) that holds type 5 (PEM chain). Every length in it is bounded by the buffer.

use crate::bytes::Fixed;
use crate::limits;

const HEADER: usize = 48;
const BODY_10: usize = 584;
const BODY_15: usize = 648;
/// Body descriptor of version 5: type and size.
const DESCRIPTOR: usize = 6;
const TD_10: u16 = 2;
const TD_15: u16 = 3;
const ECDSA_P256: u16 = 2;
const TEE_TDX: u32 = 0x81;
/// Intel's quoting enclave.
const VENDOR: [u8; 16] = *b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07";
const QE_REPORT: u16 = 6;
const PCK_CHAIN: u16 = 5;

/// A quote as read; nothing in it is believed before its chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// 4 or 5.
    pub version: u16,
    /// What the TDX module said of the TD.
    pub body: Body,
    /// Header and body as signed.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: [u8; 64],
    pub(crate) attestation_key: [u8; 64],
    pub(crate) qe: QeReport,
    pub(crate) qe_report: [u8; QeReport::LEN],
    pub(crate) qe_signature: [u8; 64],
    pub(crate) qe_auth_data: Vec<u8>,
    /// PEM: PCK, intermediate, root.
    pub(crate) chain: Vec<u8>,
}

/// TDREPORT as far as a quote carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// SVNs of the TDX module.
    pub tee_tcb_svn: Fixed<16>,
    /// Measurement of the TDX module.
    pub mr_seam: Fixed<48>,
    /// Its signer; zeros for Intel's.
    pub mr_signer_seam: Fixed<48>,
    /// Its attributes.
    pub seam_attributes: u64,
    /// TDATTRIBUTES.
    pub td_attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// Measurement of the TD at launch.
    pub mr_td: Fixed<48>,
    /// Software-defined configuration.
    pub mr_config_id: Fixed<48>,
    /// Software-defined owner.
    pub mr_owner: Fixed<48>,
    /// Software-defined owner's configuration.
    pub mr_owner_config: Fixed<48>,
    /// Run-time measurement registers 0 to 3.
    pub rtmr: [Fixed<48>; 4],
    /// What the TD wanted to have signed.
    pub report_data: Fixed<64>,
    /// TD 1.5: measurement of the service TDs bound to it (migration); zeros or absent: none.
    pub mr_service_td: Option<Fixed<48>>,
}

/// The quoting enclave's own report (SGX REPORT body).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QeReport {
    pub cpu_svn: [u8; 16],
    pub misc_select: [u8; 4],
    pub attributes: [u8; 16],
    pub mr_enclave: Fixed<32>,
    pub mr_signer: Fixed<32>,
    pub isv_prod_id: u16,
    pub isv_svn: u16,
    pub report_data: Fixed<64>,
}

/// Why bytes are no quote. The node is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuoteError {
    /// Over [`limits::TEE_REPORT`].
    #[error("the TDX quote has {found} bytes, {} are allowed", limits::TEE_REPORT)]
    TooLarge {
        /// Its size, bytes.
        found: usize,
    },
    /// Ends within a part, or a part's own length does not fit.
    #[error("the TDX quote ends within its {0}")]
    Short(&'static str),
    /// A value that is not known.
    #[error("the TDX quote's {what} is {found}, which is not known")]
    Unknown {
        /// Which value.
        what: &'static str,
        /// The value.
        found: u64,
    },
    /// Not by Intel's quoting enclave.
    #[error("the TDX quote is by another vendor's quoting enclave")]
    Vendor,
    /// Bytes other than zero behind the quote, which nobody signed.
    #[error("the TDX quote has unsigned bytes behind it")]
    Trailing,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], QuoteError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(QuoteError::Short(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], QuoteError> {
        Ok(self.take(N, what)?.try_into().expect("N bytes were taken"))
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, QuoteError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, QuoteError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, QuoteError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A part with its length in front of it.
    fn sized(&mut self, what: &'static str) -> Result<Self, QuoteError> {
        let len = usize::try_from(self.u32(what)?).map_err(|_| QuoteError::Short(what))?;
        Ok(Self(self.take(len, what)?))
    }

    fn end(&self, what: &'static str) -> Result<(), QuoteError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(QuoteError::Short(what))
        }
    }

    /// Certification data of one type.
    fn certification(&mut self, want: u16, what: &'static str) -> Result<Self, QuoteError> {
        demand(what, self.u16(what)?, want)?;
        self.sized(what)
    }
}

fn demand<T: PartialEq + Into<u64>>(what: &'static str, found: T, want: T) -> Result<(), QuoteError> {
    if found == want {
        Ok(())
    } else {
        Err(QuoteError::Unknown {
            what,
            found: found.into(),
        })
    }
}

impl Quote {
    /// Reads a quote. Zeros may follow it: drivers hand over their whole buffer.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        if bytes.len() > limits::TEE_REPORT {
            return Err(QuoteError::TooLarge { found: bytes.len() });
        }
        let mut from = Reader(bytes);
        let version = header(&mut from)?;
        let body_len = match version {
            4 => BODY_10,
            _ => described_len(&mut from)?,
        };
        let body = Body::parse(from.take(body_len, "body")?)?;
        let signed = bytes[..bytes.len() - from.0.len()].to_vec();
        let mut auth = from.sized("signature data")?;
        if from.0.iter().any(|b| *b != 0) {
            return Err(QuoteError::Trailing);
        }
        let signature = auth.array("signature")?;
        let attestation_key = auth.array("attestation key")?;
        let mut certified = auth.certification(QE_REPORT, "certification data type")?;
        auth.end("signature data")?;
        let qe_report = certified.array("quoting enclave's report")?;
        let qe_signature = certified.array("quoting enclave's signature")?;
        let auth_len = certified.u16("quoting enclave's data")?;
        let qe_auth_data = certified.take(auth_len.into(), "quoting enclave's data")?;
        let chain = certified.certification(PCK_CHAIN, "PCK certification data type")?;
        certified.end("certification data")?;
        Ok(Self {
            version,
            body,
            signed,
            signature,
            attestation_key,
            qe: QeReport::parse(&qe_report)?,
            qe_report,
            qe_signature,
            qe_auth_data: qe_auth_data.to_vec(),
            chain: chain.0.to_vec(),
        })
    }
}

/// The header's version, the rest of it checked.
fn header(from: &mut Reader<'_>) -> Result<u16, QuoteError> {
    let mut header = Reader(from.take(HEADER, "header")?);
    let version = header.u16("version")?;
    if ![4, 5].contains(&version) {
        return Err(QuoteError::Unknown {
            what: "version",
            found: version.into(),
        });
    }
    demand("attestation key type", header.u16("header")?, ECDSA_P256)?;
    demand("TEE type", header.u32("header")?, TEE_TDX)?;
    header.u32("header")?; // SVNs or reserved: the collateral judges SVNs of the signed report instead.
    if header.array::<16>("header")? == VENDOR {
        Ok(version)
    } else {
        Err(QuoteError::Vendor)
    }
}

fn described_len(from: &mut Reader<'_>) -> Result<usize, QuoteError> {
    let mut descriptor = Reader(from.take(DESCRIPTOR, "body descriptor")?);
    let (kind, size) = (descriptor.u16("body type")?, descriptor.u32("body size")?);
    let len = match kind {
        TD_10 => BODY_10,
        TD_15 => BODY_15,
        _ => {
            return Err(QuoteError::Unknown {
                what: "body type",
                found: kind.into(),
            });
        }
    };
    demand("body size", u64::from(size), len as u64)?;
    Ok(len)
}

impl Body {
    /// Reads a body of version 1.0 or 1.5 by its length.
    fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        let mut from = Reader(bytes);
        let mut body = Self {
            tee_tcb_svn: Fixed(from.array("body")?),
            mr_seam: Fixed(from.array("body")?),
            mr_signer_seam: Fixed(from.array("body")?),
            seam_attributes: from.u64("body")?,
            td_attributes: from.u64("body")?,
            xfam: from.u64("body")?,
            mr_td: Fixed(from.array("body")?),
            mr_config_id: Fixed(from.array("body")?),
            mr_owner: Fixed(from.array("body")?),
            mr_owner_config: Fixed(from.array("body")?),
            rtmr: [
                Fixed(from.array("body")?),
                Fixed(from.array("body")?),
                Fixed(from.array("body")?),
                Fixed(from.array("body")?),
            ],
            report_data: Fixed(from.array("body")?),
            mr_service_td: None,
        };
        if bytes.len() == BODY_15 {
            from.array::<16>("body")?; // TEE_TCB_SVN2: the running module's; the one at launch is judged.
            body.mr_service_td = Some(Fixed(from.array("body")?));
        }
        Ok(body)
    }
}

impl QeReport {
    pub(crate) const LEN: usize = 384;

    fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, QuoteError> {
        const WHAT: &str = "quoting enclave's report";
        let mut from = Reader(bytes);
        let cpu_svn = from.array(WHAT)?;
        let misc_select = from.array(WHAT)?;
        from.take(28, WHAT)?;
        let attributes = from.array(WHAT)?;
        let mr_enclave = Fixed(from.array(WHAT)?);
        from.take(32, WHAT)?;
        let mr_signer = Fixed(from.array(WHAT)?);
        from.take(96, WHAT)?;
        let (isv_prod_id, isv_svn) = (from.u16(WHAT)?, from.u16(WHAT)?);
        from.take(60, WHAT)?;
        Ok(Self {
            cpu_svn,
            misc_select,
            attributes,
            mr_enclave,
            mr_signer,
            isv_prod_id,
            isv_svn,
            report_data: Fixed(from.array(WHAT)?),
        })
    }
}
