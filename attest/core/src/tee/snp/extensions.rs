//! The extensions of a VCEK or VLEK certificate (AMD 57230, VCEK certificate and KDS interface, 3.1): what AMD says that the key
//! was derived from. Each extension may stand once; one of a VCEK in a VLEK, or the reverse, makes it neither.

use x509_parser::certificate::X509Certificate;

use super::bits::SigningKey;
use super::generation::Generation;
use super::tcb::{Levels, Tcb};
use crate::bytes::Fixed;

/// Arc of AMD's extensions.
const ARC: &str = "1.3.6.1.4.1.3704.1.";
const TAG_INTEGER: u8 = 0x02;
const TAG_OCTET_STRING: u8 = 0x04;
const TAG_IA5: u8 = 0x16;
/// A cloud provider's name, bytes.
const CSP_ID: usize = 128;

/// What the certificate says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// productName.
    pub generation: Generation,
    /// blSPL, teeSPL, snpSPL, ucodeSPL, and fmcSPL since Turin.
    pub tcb: Tcb,
    /// hwID or cspID.
    pub holder: Holder,
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One chip's: its CHIP_ID, padded with zeros as in a report.
    Chip(Fixed<64>),
    /// One cloud provider's.
    Provider(String),
}

impl Holder {
    /// The kind of key that such a holder has.
    pub fn key(&self) -> SigningKey {
        match self {
            Self::Chip(_) => SigningKey::Vcek,
            Self::Provider(_) => SigningKey::Vlek,
        }
    }
}

/// Why a certificate is neither of a VCEK nor of a VLEK.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExtensionError {
    /// Is not there.
    #[error("it lacks AMD's extension {0}")]
    Missing(&'static str),
    /// Stands twice, or is not encoded as it should be.
    #[error("AMD's extension {0} in it is not well formed")]
    Malformed(&'static str),
    /// A product that is not known.
    #[error("it is for the product \"{0}\", which is not known")]
    Product(String),
    /// Has both hwID and cspID, or neither.
    #[error("it is neither of a chip nor of a cloud provider")]
    Holder,
}

impl Extensions {
    /// Reads AMD's extensions; all others are somebody else's.
    pub fn read(certificate: &X509Certificate<'_>) -> Result<Self, ExtensionError> {
        let product = text(demand(certificate, "2", "productName")?, "productName")?;
        let generation = Generation::from_product(&product).ok_or_else(|| ExtensionError::Product(product.clone()))?;
        let level = |arc: &str, name: &'static str| integer(demand(certificate, arc, name)?, name);
        let fmc = match generation {
            Generation::Milan | Generation::Genoa => 0,
            Generation::Turin => level("3.9", "fmcSPL")?,
        };
        let levels = Levels {
            fmc,
            bootloader: level("3.1", "blSPL")?,
            tee: level("3.2", "teeSPL")?,
            snp: level("3.3", "snpSPL")?,
            microcode: level("3.8", "ucodeSPL")?,
        };
        let chip = find(certificate, "4", "hwID")?;
        let provider = find(certificate, "5", "cspID")?;
        let holder = match (chip, provider) {
            (Some(id), None) => Holder::Chip(chip_id(id, generation)?),
            (None, Some(name)) => Holder::Provider(text(name, "cspID")?),
            (Some(_), Some(_)) | (None, None) => return Err(ExtensionError::Holder),
        };
        Ok(Self {
            generation,
            tcb: Tcb::from_levels(levels, generation),
            holder,
        })
    }
}

fn find<'a>(
    certificate: &'a X509Certificate<'_>,
    arc: &str,
    name: &'static str,
) -> Result<Option<&'a [u8]>, ExtensionError> {
    let oid = format!("{ARC}{arc}");
    let mut found = certificate.extensions().iter().filter(|e| e.oid.to_id_string() == oid);
    let value = found.next().map(|e| e.value);
    if found.next().is_some() {
        return Err(ExtensionError::Malformed(name));
    }
    Ok(value)
}

fn demand<'a>(certificate: &'a X509Certificate<'_>, arc: &str, name: &'static str) -> Result<&'a [u8], ExtensionError> {
    find(certificate, arc, name)?.ok_or(ExtensionError::Missing(name))
}

/// An INTEGER of 0 to 255.
fn integer(der: &[u8], name: &'static str) -> Result<u8, ExtensionError> {
    match der {
        [TAG_INTEGER, 1, value @ 0..=0x7f] | [TAG_INTEGER, 2, 0, value @ 0x80..=0xff] => Ok(*value),
        _ => Err(ExtensionError::Malformed(name)),
    }
}

/// An IA5String with a short length.
fn text(der: &[u8], name: &'static str) -> Result<String, ExtensionError> {
    match der {
        [TAG_IA5, len, text @ ..] if usize::from(*len) == text.len() && text.len() < CSP_ID && text.is_ascii() => {
            Ok(text.iter().copied().map(char::from).collect())
        }
        _ => Err(ExtensionError::Malformed(name)),
    }
}

/// The bytes of a chip's id, bare as AMD writes them or as an OCTET STRING.
fn chip_id(value: &[u8], generation: Generation) -> Result<Fixed<64>, ExtensionError> {
    let want = generation.chip_id_len();
    let bare = match value {
        [TAG_OCTET_STRING, len, rest @ ..] if usize::from(*len) == rest.len() && rest.len() == want => rest,
        bare => bare,
    };
    // A Turin certificate may have the id padded as in the report.
    let padded = bare.len() == 64 && bare[want..].iter().all(|b| *b == 0);
    if bare.len() != want && !padded {
        return Err(ExtensionError::Malformed("hwID"));
    }
    let mut id = [0; 64];
    id[..bare.len()].copy_from_slice(bare);
    Ok(Fixed(id))
}
