//! Certificates as they come, from a host's table or in a chain file, as DER. Believed by nobody yet.

use rempart_attest::certificate;
use rempart_attest::tee::snp::table::Table;

/// Intermediate and root.
pub(super) type Chain = (Vec<u8>, Vec<u8>);

/// What the host supplied, as DER.
#[derive(Default)]
pub(super) struct Supplied {
    pub vcek: Option<Vec<u8>>,
    pub vlek: Option<Vec<u8>>,
    pub ask: Option<Vec<u8>>,
    pub ark: Option<Vec<u8>>,
    pub crl: Option<Vec<u8>>,
}

impl Supplied {
    pub fn from(table: &Table<'_>) -> Self {
        let der = |bytes: Option<&[u8]>| bytes.and_then(der_of);
        Self {
            vcek: der(table.vcek),
            vlek: der(table.vlek),
            ask: der(table.ask),
            ark: der(table.ark),
            crl: table.crl.map(<[u8]>::to_vec),
        }
    }

    pub fn chain(&self) -> Option<Chain> {
        Some((self.ask.clone()?, self.ark.clone()?))
    }
}

/// One certificate, DER or PEM.
fn der_of(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.first() == Some(&0x30) {
        return Some(bytes.to_vec());
    }
    let mut ders = certificate::pem_to_ders(bytes).ok()?;
    (ders.len() == 1).then(|| ders.remove(0))
}

/// Intermediate and root of a chain file.
pub(super) fn chain_of(pem: &[u8]) -> Option<Chain> {
    let ders = certificate::pem_to_ders(pem).ok()?;
    let [ask, ark]: [Vec<u8>; 2] = ders.try_into().ok()?;
    Some((ask, ark))
}
