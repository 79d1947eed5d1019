//! A TLS client key that lives in the TPM: a P-256 signing primary of the endorsement hierarchy, not restricted, certified by the
//! attestation key (TPM2_Certify) so that the Verifier may issue a certificate for it.
//!
//! Must never be an attestation key: it signs any digest it is given, so nothing that it signs says anything about this machine.

use rempart_attest::{Blob, KeyCertification};
use tss_esapi::{
    Error,
    constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK},
    handles::ObjectHandle,
    interface_types::{algorithm::HashingAlgorithm, ecc::EccCurve, session_handles::AuthSession},
    structures::{AttestInfo, Data, Digest, EccPoint, HashcheckTicket, Public, Signature, SignatureScheme},
    traits::Marshall,
    tss2_esys::TPMT_TK_HASHCHECK,
};

use crate::{
    ak, object,
    tpm::{Tpm, TpmError, public_area},
};

/// SubjectPublicKeyInfo of an uncompressed P-256 point up to the point itself (RFC 5480, 2): id-ecPublicKey, secp256r1, BIT STRING.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of a coordinate or scalar of P-256.
const SCALAR: usize = 32;

/// The public part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsKey {
    /// TPM2B_PUBLIC.
    pub public: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl Tpm {
    /// The TLS key: the same each time on one TPM.
    pub fn tls_key(&mut self) -> Result<TlsKey, TpmError> {
        object::with_primary(&mut self.context, template()?, |_, _, public| {
            Ok(TlsKey {
                public: public_area(public, "the TLS key")?,
                spki: spki(public)?,
            })
        })
    }

    /// The attestation key's word that the TLS key is in the same TPM, with `qualifying` as qualifying data.
    pub fn certify_tls_key(&mut self, qualifying: &[u8; 32]) -> Result<KeyCertification, TpmError> {
        let data = Data::try_from(qualifying.as_slice()).map_err(TpmError::refused("take the qualifying data"))?;
        let source = self.options.ak;
        object::with_primary(&mut self.context, template()?, |context, key, public| {
            ak::with_ak(context, source, |context, ak, _| {
                let sessions = (Some(AuthSession::Password), Some(AuthSession::Password), None);
                let (attest, signature) = context
                    .execute_with_sessions(sessions, |context| {
                        context.certify(ObjectHandle::from(key), ak, data, SignatureScheme::Null)
                    })
                    .map_err(TpmError::refused("certify the TLS key"))?;
                let AttestInfo::Certify { .. } = attest.attested() else {
                    return Err(TpmError::Malformed { what: "a certify" });
                };
                let marshalled = TpmError::refused("marshal a certification");
                let parts = attest.marshall().and_then(|attest| Ok((attest, signature.marshall()?)));
                let (attest, signature) = parts.map_err(marshalled)?;
                Ok(KeyCertification {
                    public: Blob(public_area(public, "the TLS key")?),
                    attest: Blob(attest),
                    signature: Blob(signature),
                })
            })
        })
    }

    /// Signs a SHA-256 digest by the TLS key: an ECDSA-Sig-Value, DER (TLS 1.3 ecdsa_secp256r1_sha256).
    pub fn sign_tls(&mut self, digest: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        let digest = Digest::try_from(digest.as_slice()).map_err(TpmError::refused("take a digest"))?;
        object::with_primary(&mut self.context, template()?, |context, key, _| {
            let signature = context
                .execute_with_session(Some(AuthSession::Password), |context| {
                    context.sign(key, digest, SignatureScheme::Null, no_ticket()?)
                })
                .map_err(TpmError::refused("sign by the TLS key"))?;
            let Signature::EcDsa(signature) = signature else {
                return Err(TpmError::Malformed { what: "a signature" });
            };
            Ok(ecdsa_der(
                signature.signature_r().value(),
                signature.signature_s().value(),
            ))
        })
    }
}

/// As an attestation key but for `restricted`: an unrestricted key may sign what others hashed.
fn template() -> Result<Public, TpmError> {
    ak::ecc(EccCurve::NistP256, HashingAlgorithm::Sha256, ak::attributes(false))
        .map_err(TpmError::refused("build the TLS key's template"))
}

/// The ticket that an unrestricted key does not need (Part 3, 20.2).
fn no_ticket() -> Result<HashcheckTicket, Error> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    })
}

fn spki(public: &Public) -> Result<Vec<u8>, TpmError> {
    let malformed = || TpmError::Malformed { what: "the TLS key" };
    let Public::Ecc { unique, .. } = public else {
        return Err(malformed());
    };
    point(unique)
        .map(|point| [&SPKI_HEAD[..], &point].concat())
        .ok_or_else(malformed)
}

/// Uncompressed (SEC 1, 2.3.3). A TPM may drop leading zeros.
fn point(unique: &EccPoint) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for coordinate in [unique.x().value(), unique.y().value()] {
        point.extend(vec![0; SCALAR.checked_sub(coordinate.len())?]);
        point.extend(coordinate);
    }
    Some(point)
}

/// SEQUENCE of two INTEGERs (RFC 5480, appendix A); both lengths are below 128 for P-256.
fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}

/// A positive INTEGER in the fewest bytes.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let first = big_endian
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(big_endian.len());
    let digits = &big_endian[first..];
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    [&[0x02, (sign.len() + digits.len()) as u8], sign, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_positive_and_as_short_as_can_be() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(ecdsa_der(&[1], &[0xff]), [0x30, 7, 2, 1, 1, 2, 2, 0, 0xff]);
    }
}
