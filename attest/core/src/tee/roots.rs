//! The vendors' root keys. They are pinned here as digests of published keys; the certificates themselves come from anywhere and
//! count only when their key has the digest. An operator may add roots of his own for tests: what they sign is marked for ever.

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;

use super::snp::Generation;
use crate::bytes::Fixed;
use crate::certificate::{self, CertificateError};

/// SHA-384 of the SubjectPublicKeyInfo of AMD's root key of each generation (ARK; published with AMD's certificate chains).
const AMD: [(Generation, &str); 3] = [
    (
        Generation::Milan,
        "1249f67f15cf229a4069195e1a9ce537d1765ef706a1f4a123c36be9518786515d25ecc007f366b564d2b3f31c48082e",
    ),
    (
        Generation::Genoa,
        "32ab53a6ce5ec14926207396e5c475ae768a6a9831b7e860b5acf2e1c1dff222bc5a8bfc43eb5e06393189c1f246d880",
    ),
    (
        Generation::Turin,
        "3475f08a9727f8ac9a1deaea5f2a2097aa59d64d05c2a678c229c873e6359d3a6926287a2a22cd5f88a385e333a2fcc5",
    ),
];
/// SHA-384 of the SubjectPublicKeyInfo of the Intel SGX Root CA.
const INTEL: &str = "3cdf1feb4e5eac629170f17625648da4a16effa22ae2bcca030b4358a8961c1bf26cf54a9598cd6a2d4a9cbb62377d22";

/// Who stands behind a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The vendor, pinned in this release.
    Vendor,
    /// The operator, by configuration: for tests.
    Extra,
}

/// Which environment a root vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouches {
    /// SEV-SNP chips of one generation.
    Snp(Generation),
    /// SGX and TDX platforms.
    Tdx,
}

/// Pinned roots and the operator's own.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    extra: Vec<(Fixed<48>, Vouches)>,
}

impl Roots {
    /// The vendors' roots and `extra` DER certificates: one whose common name is `ARK-` and a generation vouches for that
    /// generation of SEV-SNP, any other for TDX.
    pub fn with_extra(extra: &[Vec<u8>]) -> Result<Self, CertificateError> {
        let read = |der: &Vec<u8>| {
            let certificate = certificate::from_der(der)?;
            let name = common_name(&certificate);
            let vouches = match name.and_then(|n| n.strip_prefix("ARK-")) {
                None => Vouches::Tdx,
                Some(line) => Vouches::Snp(Generation::from_product(line).ok_or(CertificateError::Malformed)?),
            };
            Ok((key_digest(&certificate), vouches))
        };
        let extra: Result<_, _> = extra.iter().map(read).collect();
        Ok(Self { extra: extra? })
    }

    /// Whether the operator has added roots of his own.
    pub fn has_extra(&self) -> bool {
        !self.extra.is_empty()
    }

    /// What a root certificate vouches for, if it is one of ours. Only its key counts, never its name.
    pub(crate) fn find(&self, root: &X509Certificate<'_>) -> Option<(Vouches, Origin)> {
        let digest = key_digest(root);
        let text = digest.to_string();
        if text == INTEL {
            return Some((Vouches::Tdx, Origin::Vendor));
        }
        if let Some((generation, _)) = AMD.iter().find(|(_, pin)| text == *pin) {
            return Some((Vouches::Snp(*generation), Origin::Vendor));
        }
        let own = self.extra.iter().find(|(pin, _)| *pin == digest);
        own.map(|(_, vouches)| (*vouches, Origin::Extra))
    }
}

fn key_digest(certificate: &X509Certificate<'_>) -> Fixed<48> {
    let digest = digest::digest(&digest::SHA384, certificate.public_key().raw);
    Fixed::try_from(digest.as_ref()).expect("SHA-384 has 48 bytes")
}

/// The subject's common name, if it has exactly one.
pub(crate) fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee::testing::snp::Pki;

    #[test]
    fn each_pin_is_a_digest() {
        for pin in AMD.iter().map(|(_, pin)| *pin).chain([INTEL]) {
            assert!(Fixed::<48>::from_hex(pin).is_some());
        }
    }

    #[test]
    fn a_root_that_has_only_a_vendors_name_is_none() {
        let pki = Pki::shared();
        let named = certificate::from_der(&pki.ark).expect("certificate");
        assert_eq!(common_name(&named), Some("ARK-Milan"));
        assert_eq!(Roots::default().find(&named), None);
        assert_eq!(
            pki.roots().find(&named),
            Some((Vouches::Snp(Generation::Milan), Origin::Extra))
        );
    }
}
