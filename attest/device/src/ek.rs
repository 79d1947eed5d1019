//! Endorsement keys by the templates of the TCG EK Credential Profile 2.5 (L-1: RSA 2048, L-2: ECC P-256, H-3: ECC P-384), their
//! certificates from NV, and the chain of those certificates where the manufacturer left it.
//!
//! Must never be used to sign or to decrypt anything but a credential.

use tss_esapi::{
    Context,
    abstraction::{AsymmetricAlgorithmSelection, DefaultKey, ek},
    interface_types::{ecc::EccCurve, key_bits::RsaKeyBits},
    structures::Public,
};

use crate::{
    nv, object,
    options::{EkChoice, EkKind},
    tpm::{Tpm, TpmError, public_area},
};

/// Indices of the certificates between the EK certificate and the manufacturer's root (EK Credential Profile, 2.2.1.5.2).
const CHAIN_FIRST: u32 = 0x01c0_0100;
const CHAIN_LAST: u32 = 0x01c0_01ff;
/// Longest certificate or chain index, bytes: the largest certificates seen have 2 KiB, and an index may hold several.
const MAX_INDEX: usize = 16 * 1024;
/// Certificates in a chain, count: the same that the Verifier walks (its limits::CHAIN), and indices that they may be spread over.
const MAX_CHAIN: usize = rempart_attest::limits::CHAIN;
const MAX_CHAIN_INDICES: u32 = 8;

/// The endorsement key, as the Verifier needs it to enrol this TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// By which template.
    pub kind: EkKind,
    /// TPM2B_PUBLIC.
    pub public: Vec<u8>,
    /// The manufacturer's certificate (DER), when the TPM has one.
    pub certificate: Option<Vec<u8>>,
    /// What else of the manufacturer's chain the TPM holds, DER each, in the TPM's order. Only a help to find the root: no anchor.
    pub chain: Vec<Vec<u8>>,
}

impl Tpm {
    /// The endorsement key of the options, its certificate and chain.
    pub fn endorsement_key(&mut self) -> Result<EndorsementKey, TpmError> {
        let kind = self.endorsement_kind()?;
        let public = object::with_primary(&mut self.context, template(kind)?, |_, _, public| {
            public_area(public, "the endorsement key")
        })?;
        Ok(EndorsementKey {
            kind,
            public,
            certificate: certificate(&mut self.context, kind)?,
            chain: chain(&mut self.context)?,
        })
    }

    /// Which endorsement key the options mean on this TPM.
    pub fn endorsement_kind(&mut self) -> Result<EkKind, TpmError> {
        match self.options.ek {
            EkChoice::Kind(kind) => Ok(kind),
            EkChoice::Auto => Ok(self.certified()?.first().copied().unwrap_or(EkKind::Rsa2048)),
        }
    }

    /// The kinds that have a certificate in NV, best first.
    pub(crate) fn certified(&mut self) -> Result<Vec<EkKind>, TpmError> {
        let mut certified = Vec::new();
        for kind in EkKind::ALL {
            if object::exists(&mut self.context, kind.certificate_index())? {
                certified.push(kind);
            }
        }
        Ok(certified)
    }
}

pub(crate) fn template(kind: EkKind) -> Result<Public, TpmError> {
    let algorithm = match kind {
        EkKind::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        EkKind::EccP256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        EkKind::EccP384 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384),
    };
    ek::create_ek_public_from_default_template_2(algorithm, DefaultKey)
        .map_err(TpmError::refused("build the endorsement key's template"))
}

/// The EK certificate from NV; `None` when the index is not defined.
fn certificate(context: &mut Context, kind: EkKind) -> Result<Option<Vec<u8>>, TpmError> {
    let what = "the EK certificate in NV";
    let Some(stored) = nv::read(context, kind.certificate_index(), nv::Reader::Index, MAX_INDEX, what)? else {
        return Ok(None);
    };
    let length = der_length(&stored).ok_or(TpmError::Malformed { what })?;
    Ok(Some(stored[..length].to_vec()))
}

/// The certificates of the chain indices. Their contents in ascending order are one byte string, cut where an index was full.
fn chain(context: &mut Context) -> Result<Vec<Vec<u8>>, TpmError> {
    let what = "the EK certificate chain in NV";
    let mut stored = Vec::new();
    for index in object::handles(context, CHAIN_FIRST, MAX_CHAIN_INDICES)? {
        if index > CHAIN_LAST {
            break;
        }
        let part = nv::read(context, index, nv::Reader::Index, MAX_INDEX, what)?;
        stored.extend(part.unwrap_or_default());
    }
    split(&stored).ok_or(TpmError::Malformed { what })
}

/// Certificates that stand one behind the other, then padding; `None` when one is cut short or they are too many.
fn split(mut stored: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while stored.first() == Some(&0x30) {
        let (certificate, rest) = stored.split_at(der_length(stored)?);
        found.push(certificate.to_vec());
        stored = rest;
    }
    (found.len() <= MAX_CHAIN).then_some(found)
}

/// Length of the DER SEQUENCE that `stored` starts with: manufacturers pad the index behind the certificate.
fn der_length(stored: &[u8]) -> Option<usize> {
    let (header, body) = match *stored {
        [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [0x30, 0x81, length, ..] => (3, usize::from(length)),
        [0x30, length, ..] if length < 0x80 => (2, usize::from(length)),
        _ => return None,
    };
    (header + body <= stored.len()).then_some(header + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_behind_a_certificate_is_cut_and_a_cut_certificate_refused() {
        assert_eq!(der_length(&[0x30, 0x02, 5, 0, 0xff, 0xff]), Some(4));
        assert_eq!(der_length(&[0x30, 0x82, 0x00, 0x01, 9, 0xff]), Some(5));
        assert_eq!(der_length(&[0x30, 0x82, 0x01, 0x00, 9]), None);
        assert_eq!(der_length(&[0xff; 8]), None);
    }

    #[test]
    fn a_chain_is_split_at_its_certificates_and_a_cut_or_endless_one_refused() {
        let two = [0x30, 1, 7, 0x30, 2, 8, 9];
        let expected = vec![vec![0x30, 1, 7], vec![0x30, 2, 8, 9]];
        assert_eq!(split(&two), Some(expected.clone()));
        assert_eq!(split(&[&two[..], &[0xff; 9]].concat()), Some(expected));
        assert_eq!(split(&[]), Some(Vec::new()));
        assert_eq!(split(&two[..6]), None);
        assert_eq!(split(&[0x30, 0].repeat(MAX_CHAIN + 1)), None);
    }
}
