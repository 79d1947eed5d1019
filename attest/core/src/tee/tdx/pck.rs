//! The SGX extension of a PCK certificate (SGX PCK Certificate and CRL Specification, 1.3.5): FMSPC, PCE id, and the SVNs that the
//! PCK was derived from. Read by hand: a SEQUENCE of (OID, value) pairs, one of which is such a SEQUENCE again.

use x509_parser::certificate::X509Certificate;

use crate::bytes::Fixed;

const SGX: &str = "1.2.840.113741.1.13.1";
/// The content of the OID above, as each pair's OID begins.
const ARC: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;

/// What Intel says of a platform's PCK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pck {
    /// Family, model, stepping, platform type, custom SKU.
    pub fmspc: Fixed<6>,
    /// Provisioning certification enclave.
    pub pce_id: Fixed<2>,
    /// SVNs of the 16 components.
    pub components: [u8; 16],
    /// SVN of that enclave.
    pub pce_svn: u16,
}

impl Pck {
    /// Reads the extension; `None` where it is missing, doubled or malformed.
    pub(crate) fn read(certificate: &X509Certificate<'_>) -> Option<Self> {
        let mut found = certificate.extensions().iter().filter(|e| e.oid.to_id_string() == SGX);
        let (extension, None) = (found.next()?, found.next()) else {
            return None;
        };
        Self::parse(extension.value)
    }

    /// Reads the extension's value; every length in it is bounded by the buffer.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let pairs = pairs(value)?;
        let octets = |arc: u8| find(&pairs, &[arc]).and_then(|value| value_of(OCTET_STRING, value));
        let tcb = self::pairs(find(&pairs, &[2])?)?;
        let svn = |arc: u8| find(&tcb, &[2, arc]).and_then(|value| number(value_of(INTEGER, value)?));
        let mut components = [0; 16];
        for (arc, component) in (1..).zip(&mut components) {
            *component = u8::try_from(svn(arc)?).ok()?;
        }
        Some(Self {
            fmspc: Fixed::try_from(octets(4)?).ok()?,
            pce_id: Fixed::try_from(octets(3)?).ok()?,
            components,
            pce_svn: svn(17)?,
        })
    }
}

type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a SEQUENCE of SEQUENCEs that fills the buffer: OID content behind [`ARC`], and the value with its tag.
fn pairs(der: &[u8]) -> Option<Vec<Pair<'_>>> {
    let mut rest = value_of(SEQUENCE, der)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (pair, next) = split(SEQUENCE, rest)?;
        let (oid, value) = split(OID, pair)?;
        found.push((oid.strip_prefix(&ARC)?, value));
        rest = next;
    }
    Some(found)
}

fn find<'a>(pairs: &[Pair<'a>], arc: &[u8]) -> Option<&'a [u8]> {
    let mut found = pairs.iter().filter(|(oid, _)| *oid == arc);
    let (_, value) = found.next()?;
    found.next().is_none().then_some(*value)
}

fn number(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [low @ 0..=0x7f] => Some(u16::from(*low)),
        [0, low] => Some(u16::from(*low)),
        [high @ 0..=0x7f, low] => Some(u16::from_be_bytes([*high, *low])),
        [0, high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The content of an element that fills the buffer.
fn value_of(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let (content, rest) = split(tag, der)?;
    rest.is_empty().then_some(content)
}

/// The content of the first element, and what follows it. Lengths of one or two bytes are enough for a certificate.
fn split(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    match der {
        [found, len @ 0..=0x7f, rest @ ..] if *found == tag => rest.split_at_checked(usize::from(*len)),
        [found, 0x81, len @ 0x80..=0xff, rest @ ..] if *found == tag => rest.split_at_checked(usize::from(*len)),
        [found, 0x82, high @ 1..=0xff, low, rest @ ..] if *found == tag => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}
