//! From the key that signs reports to AMD's root: ARK, ASK or ASVK, VCEK or VLEK, and the ARK's revocation list. The outcome is a
//! value that a Verifier may keep until [`VerifiedVek::valid_until`]; each report then costs one signature.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use x509_parser::asn1_rs::oid;
use x509_parser::certificate::X509Certificate;

use super::bits::SigningKey;
use super::extensions::{ExtensionError, Extensions, Holder};
use super::generation::Generation;
use super::tcb::Tcb;
use crate::bytes::Fixed;
use crate::certificate::{self, CertificateError};
use crate::finding::Finding;
use crate::tee::crl::{self, CrlError, VerifiedCrl};
use crate::tee::roots::{Origin, Roots, Vouches, common_name};
use crate::tee::x509::{self, Algorithm};

/// An uncompressed P-384 point.
const POINT: usize = 97;

/// The certificates of one chain, DER, from wherever they were had.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a> {
    /// VCEK or VLEK.
    pub vek: &'a [u8],
    /// ASK for a VCEK, ASVK for a VLEK.
    pub ask: &'a [u8],
    /// The root.
    pub ark: &'a [u8],
    /// The root's revocation list, where there is one. A list that is there must count.
    pub crl: Option<&'a [u8]>,
}

/// A key of which AMD says that it signs reports of one chip, or of one provider's chips, at one TCB.
#[derive(Clone, Debug)]
pub struct VerifiedVek {
    /// Generation of the chip.
    pub generation: Generation,
    /// What the key was derived from.
    pub tcb: Tcb,
    /// Whose key it is.
    pub holder: Holder,
    /// Who stands behind the root.
    pub origin: Origin,
    /// From when to when the revocation list counts; `None`: nobody asked.
    pub crl: Option<(u64, u64)>,
    /// Unix seconds; after it, verify again.
    pub valid_until: u64,
    pub(crate) key: ParsedPublicKey,
}

/// Why a chain does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainError {
    /// The root's key is not pinned.
    #[error("the root \"{0}\" is not AMD's and none of the Verifier's own")]
    Root(String),
    /// The root vouches for another generation than the key's certificate names.
    #[error("the key's certificate is for {key}, its root is the one for {root}")]
    Generation {
        /// Of the certificate.
        key: Generation,
        /// Of the root.
        root: Generation,
    },
    /// The root's certificate itself.
    #[error("the ARK certificate does not count: {0}")]
    Ark(CertificateError),
    /// The intermediate.
    #[error("the ASK or ASVK certificate does not count: {0}")]
    Ask(CertificateError),
    /// The key's certificate.
    #[error("the VCEK or VLEK certificate does not count: {0}")]
    Vek(CertificateError),
    /// Its extensions.
    #[error("the VCEK or VLEK certificate does not count: {0}")]
    Extensions(#[from] ExtensionError),
    /// A VCEK under an ASVK, a VLEK under an ASK, or a subject of the other kind.
    #[error("the certificate's extensions are those of a {key}, but \"{found}\" stands where \"{expected}\" should")]
    Kind {
        /// By its extensions.
        key: SigningKey,
        /// The name that such a key has.
        expected: String,
        /// The name that is there.
        found: String,
    },
    /// Not a P-384 key.
    #[error("the key in the VCEK or VLEK certificate is not a P-384 key")]
    Key,
    /// The revocation list does not count.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// The list names a certificate of the chain.
    #[error("AMD has revoked the certificate of \"{0}\"")]
    Revoked(String),
}

impl ChainError {
    /// Name of the finding.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Root(_) => "snp-root",
            Self::Generation { .. } => "snp-root-generation",
            Self::Ark(_) => "snp-ark",
            Self::Ask(_) => "snp-ask",
            Self::Vek(_) | Self::Key => "snp-vek",
            Self::Extensions(_) => "snp-vek-extensions",
            Self::Kind { .. } => "snp-vek-kind",
            Self::Crl(CrlError::Stale(_)) => "snp-crl-stale",
            Self::Crl(CrlError::Signature(_) | CrlError::Issuer { .. }) => "snp-crl-signature",
            Self::Crl(_) => "snp-crl",
            Self::Revoked(_) => "snp-revoked",
        }
    }

    /// The finding on node `who`, whose host supplied the certificates. Lists are the Verifier's business: it fetches and renews them.
    pub fn finding(&self, who: &str) -> Finding {
        let who = if matches!(self, Self::Crl(_)) { "verifier" } else { who };
        Finding::new(self.check(), who, self.to_string(), super::HOST)
    }
}

/// Verifies a chain at `now` (Unix seconds).
pub fn verify(certificates: &Certificates<'_>, roots: &Roots, now: u64) -> Result<VerifiedVek, ChainError> {
    let ark = certificate::from_der(certificates.ark).map_err(ChainError::Ark)?;
    let ask = certificate::from_der(certificates.ask).map_err(ChainError::Ask)?;
    let vek = certificate::from_der(certificates.vek).map_err(ChainError::Vek)?;
    let (generation, origin) = root_is_ours(&ark, roots)?;
    x509::check_link(Algorithm::Amd, &ark, &ark, now).map_err(ChainError::Ark)?;
    x509::check_link(Algorithm::Amd, &ask, &ark, now).map_err(ChainError::Ask)?;
    x509::check_link(Algorithm::Amd, &vek, &ask, now).map_err(ChainError::Vek)?;
    certificate::check_itself(&vek, now).map_err(ChainError::Vek)?;
    let extensions = Extensions::read(&vek)?;
    if extensions.generation != generation {
        return Err(ChainError::Generation {
            key: extensions.generation,
            root: generation,
        });
    }
    kind_is_consistent(&vek, &ask, &extensions)?;
    let crl = certificates.crl.map(|der| crl::verify(Algorithm::Amd, der, &ark, now));
    let crl = crl.transpose()?;
    nothing_is_revoked(crl.as_ref(), &[&ark, &ask, &vek])?;
    let ends = [&ark, &ask, &vek].into_iter().map(x509::not_after);
    let valid_until = ends.chain(crl.as_ref().map(|c| c.next_update)).min().unwrap_or(now);
    Ok(VerifiedVek {
        generation,
        tcb: extensions.tcb,
        holder: extensions.holder,
        origin,
        crl: crl.map(|c| (c.this_update, c.next_update)),
        valid_until,
        key: key(&vek)?,
    })
}

/// Verifies a revocation list by itself, so that a keeper of lists never gives a good one away for a bad one.
pub fn verify_crl(der: &[u8], ark: &[u8], roots: &Roots, now: u64) -> Result<VerifiedCrl, ChainError> {
    let ark = certificate::from_der(ark).map_err(ChainError::Ark)?;
    root_is_ours(&ark, roots)?;
    Ok(crl::verify(Algorithm::Amd, der, &ark, now)?)
}

/// Of which generation a root is, if it is one of ours.
pub fn root_generation(ark: &[u8], roots: &Roots) -> Result<Generation, ChainError> {
    let ark = certificate::from_der(ark).map_err(ChainError::Ark)?;
    Ok(root_is_ours(&ark, roots)?.0)
}

fn root_is_ours(ark: &X509Certificate<'_>, roots: &Roots) -> Result<(Generation, Origin), ChainError> {
    match roots.find(ark) {
        Some((Vouches::Snp(generation), origin)) => Ok((generation, origin)),
        Some((Vouches::Tdx, _)) | None => Err(ChainError::Root(ark.subject().to_string())),
    }
}

/// AMD names its certificates by kind (57230, 3.1): the names must agree with the extensions.
fn kind_is_consistent(
    vek: &X509Certificate<'_>,
    ask: &X509Certificate<'_>,
    extensions: &Extensions,
) -> Result<(), ChainError> {
    let key = extensions.holder.key();
    let line = extensions.generation.name();
    let (leaf, issuer) = match key {
        SigningKey::Vcek => ("SEV-VCEK", format!("SEV-{line}")),
        SigningKey::Vlek => ("SEV-VLEK", format!("SEV-VLEK-{line}")),
    };
    for (certificate, expected) in [(vek, leaf), (ask, issuer.as_str())] {
        let found = common_name(certificate).unwrap_or_default();
        if found != expected {
            return Err(ChainError::Kind {
                key,
                expected: expected.into(),
                found: found.into(),
            });
        }
    }
    Ok(())
}

fn nothing_is_revoked(crl: Option<&VerifiedCrl>, chain: &[&X509Certificate<'_>]) -> Result<(), ChainError> {
    let Some(crl) = crl else { return Ok(()) };
    let revoked = chain.iter().find(|certificate| crl.revokes(certificate));
    revoked.map_or(Ok(()), |c| Err(ChainError::Revoked(c.subject().to_string())))
}

fn key(vek: &X509Certificate<'_>) -> Result<ParsedPublicKey, ChainError> {
    let spki = vek.public_key();
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    let bits = &spki.subject_public_key.data;
    if curve != Some(oid!(1.3.132.0.34)) || bits.len() != POINT {
        return Err(ChainError::Key);
    }
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bits).map_err(|_| ChainError::Key)
}

impl VerifiedVek {
    /// The chip that the key belongs to, where it belongs to one.
    pub fn chip_id(&self) -> Option<&Fixed<64>> {
        match &self.holder {
            Holder::Chip(id) => Some(id),
            Holder::Provider(_) => None,
        }
    }
}
