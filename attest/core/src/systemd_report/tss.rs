//! TPM structures in TCG's JSON form ("TSS 2.0 JSON Data Types and Policy Language"), as far as systemd writes them, and back to the
//! bytes that a TPM signed (TPM 2.0 Library Part 2). A name or a value that is not known here is refused: what is passed over could not
//! be marshalled again. Must never fill in what a sender left out.

use serde::Deserialize;

use super::json::{Bounded, Hex, Text};
use crate::limits;
use crate::tpm::alg;
use crate::tpm::attest::{NV, QUOTE, SESSION_AUDIT};
use crate::tpm::wire::put_sized;

/// TPM_GENERATED_VALUE.
const MAGIC: u32 = 0xff54_4347;
/// Registers on a PC (PTP 4.6), which makes a selection's bit map three bytes.
const REGISTERS: u8 = 24;

/// A structure that cannot be marshalled, named by its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not what systemd writes there")]
pub struct Unknown(pub &'static str);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Attest<'a> {
    #[serde(borrow)]
    magic: Text<'a>,
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    qualified_signer: Hex,
    pub extra_data: Hex,
    #[serde(borrow)]
    clock_info: Clock<'a>,
    firmware_version: u64,
    #[serde(borrow)]
    pub attested: Attested<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Clock<'a> {
    clock: u64,
    reset_count: u32,
    restart_count: u32,
    #[serde(borrow)]
    safe: Text<'a>,
}

/// What the type says. Which fields must be there is judged when it is marshalled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Attested<'a> {
    #[serde(borrow)]
    pcr_select: Option<Bounded<Selection<'a>, { limits::LOG_ALGORITHMS }>>,
    pcr_digest: Option<Hex>,
    index_name: Option<Hex>,
    offset: Option<u16>,
    nv_contents: Option<Hex>,
    #[serde(borrow)]
    exclusive_session: Option<Text<'a>>,
    session_digest: Option<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selection<'a> {
    #[serde(borrow)]
    hash: Text<'a>,
    pcr_select: Bounded<u8, { REGISTERS as usize }>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Public<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    name_alg: Text<'a>,
    object_attributes: u32,
    auth_policy: Hex,
    #[serde(borrow)]
    parameters: Parameters<'a>,
    unique: Unique,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters<'a> {
    #[serde(borrow)]
    symmetric: Symmetric<'a>,
    #[serde(borrow)]
    scheme: Scheme<'a>,
    key_bits: Option<u16>,
    exponent: Option<u32>,
    #[serde(rename = "curveID", borrow)]
    curve: Option<Text<'a>>,
    #[serde(borrow)]
    kdf: Option<Scheme<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Symmetric<'a> {
    #[serde(borrow)]
    algorithm: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scheme<'a> {
    #[serde(borrow)]
    scheme: Text<'a>,
    #[serde(borrow)]
    details: Option<Details<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details<'a> {
    #[serde(rename = "hashAlg", borrow)]
    hash: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Unique {
    Rsa(Hex),
    Ecc(Point),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    x: Hex,
    y: Hex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Signature<'a> {
    #[serde(borrow)]
    sig_alg: Text<'a>,
    #[serde(borrow)]
    signature: Values<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Values<'a> {
    #[serde(borrow)]
    hash: Text<'a>,
    sig: Option<Hex>,
    #[serde(rename = "signatureR")]
    r: Option<Hex>,
    #[serde(rename = "signatureS")]
    s: Option<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NvPublic<'a> {
    pub nv_index: u32,
    #[serde(borrow)]
    name_alg: Text<'a>,
    pub attributes: u32,
    auth_policy: Hex,
    pub data_size: u16,
}

impl Attest<'_> {
    /// TPMS_ATTEST.
    pub fn marshal(&self) -> Result<Vec<u8>, Unknown> {
        // The JSON form has one word for the one value of a magic.
        if self.magic.0 != "VALUE" {
            return Err(Unknown("magic"));
        }
        let (kind, attested) = self.attested.marshal(&self.kind.0)?;
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend(kind.to_be_bytes());
        put_sized(&mut out, &self.qualified_signer.0);
        put_sized(&mut out, &self.extra_data.0);
        out.extend(self.clock_info.clock.to_be_bytes());
        out.extend(self.clock_info.reset_count.to_be_bytes());
        out.extend(self.clock_info.restart_count.to_be_bytes());
        out.push(yes_no(&self.clock_info.safe.0, "safe")?);
        out.extend(self.firmware_version.to_be_bytes());
        out.extend(attested);
        Ok(out)
    }
}

impl Attested<'_> {
    /// TPM_ST and TPMU_ATTEST: exactly the fields of that type.
    fn marshal(&self, kind: &str) -> Result<(u16, Vec<u8>), Unknown> {
        let mut out = Vec::new();
        let kind = match (kind, self) {
            (
                "ATTEST_QUOTE",
                Self {
                    pcr_select: Some(Bounded(selections)),
                    pcr_digest: Some(digest),
                    index_name: None,
                    offset: None,
                    nv_contents: None,
                    exclusive_session: None,
                    session_digest: None,
                },
            ) => {
                selection_list(&mut out, selections)?;
                put_sized(&mut out, &digest.0);
                QUOTE
            }
            (
                "ATTEST_NV",
                Self {
                    index_name: Some(name),
                    offset: Some(offset),
                    nv_contents: Some(contents),
                    pcr_select: None,
                    pcr_digest: None,
                    exclusive_session: None,
                    session_digest: None,
                },
            ) => {
                put_sized(&mut out, &name.0);
                out.extend(offset.to_be_bytes());
                put_sized(&mut out, &contents.0);
                NV
            }
            (
                "ATTEST_SESSION_AUDIT",
                Self {
                    exclusive_session: Some(exclusive),
                    session_digest: Some(digest),
                    pcr_select: None,
                    pcr_digest: None,
                    index_name: None,
                    offset: None,
                    nv_contents: None,
                },
            ) => {
                out.push(yes_no(&exclusive.0, "exclusiveSession")?);
                put_sized(&mut out, &digest.0);
                SESSION_AUDIT
            }
            _ => return Err(Unknown("type or attested")),
        };
        Ok((kind, out))
    }
}

/// TPML_PCR_SELECTION. The JSON form leaves the bit map's size out; on a PC it is three bytes.
fn selection_list(out: &mut Vec<u8>, selections: &[Selection<'_>]) -> Result<(), Unknown> {
    let count = u32::try_from(selections.len()).map_err(|_| Unknown("pcrSelect"))?;
    out.extend(count.to_be_bytes());
    for selection in selections {
        let registers = &selection.pcr_select.0;
        // In order and each once: other lists would be the same bit map, and then one structure could be written in two ways.
        let ordered = registers.windows(2).all(|pair| pair[0] < pair[1]);
        if !ordered || registers.iter().any(|pcr| *pcr >= REGISTERS) {
            return Err(Unknown("pcrSelect"));
        }
        let map = registers.iter().fold(0u32, |map, pcr| map | 1 << pcr);
        out.extend(hash(&selection.hash.0)?.to_be_bytes());
        out.push(REGISTERS / 8);
        out.extend(&map.to_le_bytes()[..usize::from(REGISTERS / 8)]);
    }
    Ok(())
}

impl Public<'_> {
    /// TPM2B_PUBLIC of a signing key.
    pub fn marshal(&self) -> Result<Vec<u8>, Unknown> {
        let parameters = &self.parameters;
        if parameters.symmetric.algorithm.0 != "NULL" {
            return Err(Unknown("symmetric"));
        }
        let kind = match &*self.kind.0 {
            "RSA" => alg::RSA,
            "ECC" => alg::ECC,
            _ => return Err(Unknown("type")),
        };
        let mut area = [kind, hash(&self.name_alg.0)?].map(u16::to_be_bytes).concat();
        area.extend(self.object_attributes.to_be_bytes());
        put_sized(&mut area, &self.auth_policy.0);
        area.extend(alg::NULL.to_be_bytes());
        parameters.scheme.marshal(&mut area)?;
        match (kind, parameters, &self.unique) {
            (
                alg::RSA,
                Parameters {
                    key_bits: Some(bits),
                    exponent: Some(exponent),
                    curve: None,
                    kdf: None,
                    ..
                },
                Unique::Rsa(modulus),
            ) => {
                area.extend(bits.to_be_bytes());
                area.extend(exponent.to_be_bytes());
                put_sized(&mut area, &modulus.0);
            }
            (
                alg::ECC,
                Parameters {
                    curve: Some(curve),
                    kdf: Some(kdf),
                    key_bits: None,
                    exponent: None,
                    ..
                },
                Unique::Ecc(point),
            ) => {
                area.extend(curve_id(&curve.0)?.to_be_bytes());
                kdf.marshal(&mut area)?;
                put_sized(&mut area, &point.x.0);
                put_sized(&mut area, &point.y.0);
            }
            _ => return Err(Unknown("parameters or unique")),
        }
        let mut out = Vec::new();
        put_sized(&mut out, &area);
        Ok(out)
    }
}

impl Scheme<'_> {
    fn marshal(&self, out: &mut Vec<u8>) -> Result<(), Unknown> {
        match (&*self.scheme.0, &self.details) {
            ("NULL", None) => out.extend(alg::NULL.to_be_bytes()),
            (name, Some(details)) => {
                out.extend(scheme(name)?.to_be_bytes());
                out.extend(hash(&details.hash.0)?.to_be_bytes());
            }
            _ => return Err(Unknown("scheme")),
        }
        Ok(())
    }
}

impl Signature<'_> {
    /// TPMT_SIGNATURE.
    pub fn marshal(&self) -> Result<Vec<u8>, Unknown> {
        let kind = scheme(&self.sig_alg.0)?;
        let mut out = [kind, hash(&self.signature.hash.0)?].map(u16::to_be_bytes).concat();
        match (kind, &self.signature) {
            (
                alg::ECDSA,
                Values {
                    r: Some(r),
                    s: Some(s),
                    sig: None,
                    ..
                },
            ) => {
                put_sized(&mut out, &r.0);
                put_sized(&mut out, &s.0);
            }
            (
                alg::RSASSA | alg::RSAPSS,
                Values {
                    sig: Some(sig),
                    r: None,
                    s: None,
                    ..
                },
            ) => {
                put_sized(&mut out, &sig.0);
            }
            _ => return Err(Unknown("signature")),
        }
        Ok(out)
    }
}

impl NvPublic<'_> {
    /// TPMS_NV_PUBLIC (Part 2, 13.5).
    pub fn marshal(&self) -> Result<Vec<u8>, Unknown> {
        let mut out = self.nv_index.to_be_bytes().to_vec();
        out.extend(hash(&self.name_alg.0)?.to_be_bytes());
        out.extend(self.attributes.to_be_bytes());
        put_sized(&mut out, &self.auth_policy.0);
        out.extend(self.data_size.to_be_bytes());
        Ok(out)
    }

    /// TPM_ALG_ID of its Name.
    pub fn name_alg(&self) -> Result<u16, Unknown> {
        hash(&self.name_alg.0)
    }
}

fn yes_no(word: &str, what: &'static str) -> Result<u8, Unknown> {
    match word {
        "YES" => Ok(1),
        "NO" => Ok(0),
        _ => Err(Unknown(what)),
    }
}

/// Known, not accepted: whoever reads what was marshalled judges the algorithm.
pub(super) fn hash(name: &str) -> Result<u16, Unknown> {
    match name {
        "SHA1" => Ok(alg::SHA1),
        "SHA256" => Ok(alg::SHA256),
        "SHA384" => Ok(alg::SHA384),
        "SHA512" => Ok(alg::SHA512),
        _ => Err(Unknown("hash")),
    }
}

fn scheme(name: &str) -> Result<u16, Unknown> {
    match name {
        "RSASSA" => Ok(alg::RSASSA),
        "RSAPSS" => Ok(alg::RSAPSS),
        "ECDSA" => Ok(alg::ECDSA),
        _ => Err(Unknown("scheme")),
    }
}

fn curve_id(name: &str) -> Result<u16, Unknown> {
    match name {
        "NIST_P256" => Ok(alg::P256),
        "NIST_P384" => Ok(alg::P384),
        _ => Err(Unknown("curveID")),
    }
}
