//! Endorsement key: RSA 2048 by the TCG default template (EK Credential Profile, template L-1), its certificate
//! from NV, and TPM2_ActivateCredential, which shows that an attestation key lives in the same TPM.
//!
//! Must never be used to sign or to decrypt anything but a credential.

use tss_esapi::{
    Context, Error,
    abstraction::{AsymmetricAlgorithmSelection, DefaultKey, ek, nv},
    constants::{CapabilityType, SessionType},
    handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, ObjectHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        key_bits::RsaKeyBits,
        resource_handles::NvAuth,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{CapabilityData, Digest, EncryptedSecret, IdObject, Nonce, Public, SymmetricDefinition},
    traits::Marshall,
};

use crate::{
    ak,
    tpm::{Tpm, TpmError, sized, unsized_body},
};

/// NV index of the RSA 2048 EK certificate (EK Credential Profile, 2.2.1.4).
const CERTIFICATE_INDEX: u32 = 0x01c0_0002;

/// The endorsement key, as the Verifier needs it to enrol this TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// TPM2B_PUBLIC.
    pub public: Vec<u8>,
    /// The manufacturer's certificate (DER), when the TPM has one.
    pub certificate: Option<Vec<u8>>,
}

impl Tpm {
    /// The endorsement key and its certificate.
    pub fn endorsement_key(&mut self) -> Result<EndorsementKey, TpmError> {
        let public = self.with_primary(template()?, |_, _, public| {
            let body = public
                .marshall()
                .map_err(TpmError::refused("marshal the endorsement key"))?;
            sized(&body, "the endorsement key")
        })?;
        Ok(EndorsementKey {
            public,
            certificate: self.certificate()?,
        })
    }

    /// The secret that the Verifier encrypted to this TPM's endorsement key for its attestation key.
    /// `id_object` is a TPM2B_ID_OBJECT, `secret` a TPM2B_ENCRYPTED_SECRET.
    pub fn activate_credential(&mut self, id_object: &[u8], secret: &[u8]) -> Result<Vec<u8>, TpmError> {
        let id_object = IdObject::try_from(unsized_body(id_object, "TPM2B_ID_OBJECT")?).map_err(|_| {
            TpmError::CredentialMalformed {
                what: "TPM2B_ID_OBJECT",
            }
        })?;
        let secret = EncryptedSecret::try_from(unsized_body(secret, "TPM2B_ENCRYPTED_SECRET")?).map_err(|_| {
            TpmError::CredentialMalformed {
                what: "TPM2B_ENCRYPTED_SECRET",
            }
        })?;
        let (ek, ak) = (template()?, ak::template()?);
        self.with_primary(ek, |context, ek, _| {
            with_second_primary(context, ak, |context, ak| {
                with_endorsement_policy(context, |context, policy| {
                    context
                        .execute_with_sessions((Some(AuthSession::Password), Some(policy), None), |context| {
                            context.activate_credential(ak, ek, id_object, secret)
                        })
                        .map(|digest| digest.value().to_vec())
                        .map_err(TpmError::refused(
                            "activate the credential: it was not made for this TPM's keys",
                        ))
                })
            })
        })
    }

    /// The EK certificate from NV; `None` when the index is not defined.
    fn certificate(&mut self) -> Result<Option<Vec<u8>>, TpmError> {
        let what = "read the EK certificate from NV index 0x01c00002";
        let index = NvIndexTpmHandle::new(CERTIFICATE_INDEX).map_err(TpmError::refused(what))?;
        let (found, _) = self
            .context
            .execute_without_session(|context| context.get_capability(CapabilityType::Handles, CERTIFICATE_INDEX, 1))
            .map_err(TpmError::refused("list its NV indexes"))?;
        let CapabilityData::Handles(handles) = found else {
            return Err(TpmError::Malformed {
                what: "the list of NV indexes",
            });
        };
        if !handles.contains(&TpmHandle::NvIndex(index)) {
            return Ok(None);
        }
        let read = |context: &mut Context| -> Result<Vec<u8>, Error> {
            let handle =
                context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)))?;
            context.execute_with_session(Some(AuthSession::Password), |context| {
                nv::read_full(context, NvAuth::NvIndex(handle.into()), index)
            })
        };
        let stored = read(&mut self.context).map_err(TpmError::refused(what))?;
        let length = der_length(&stored).ok_or(TpmError::Malformed {
            what: "the EK certificate",
        })?;
        Ok(Some(stored[..length].to_vec()))
    }
}

fn template() -> Result<Public, TpmError> {
    ek::create_ek_public_from_default_template_2(AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048), DefaultKey)
        .map_err(TpmError::refused("build the endorsement key's template"))
}

fn with_second_primary<T>(
    context: &mut Context,
    template: Public,
    use_key: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    use tss_esapi::interface_types::resource_handles::Hierarchy;
    let made = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })
        .map_err(TpmError::refused("make the attestation key"))?;
    let result = use_key(context, made.key_handle);
    let flushed = context.flush_context(ObjectHandle::from(made.key_handle));
    let value = result?;
    flushed.map_err(TpmError::refused("flush the attestation key"))?;
    Ok(value)
}

/// Lends a policy session that satisfies PolicyA of the EK template: PolicySecret(TPM_RH_ENDORSEMENT).
fn with_endorsement_policy<T>(
    context: &mut Context,
    use_session: impl FnOnce(&mut Context, AuthSession) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let what = "start a policy session";
    let session = context
        .execute_without_session(|context| {
            context.start_auth_session(
                None,
                None,
                None,
                SessionType::Policy,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })
        .map_err(TpmError::refused(what))?
        .ok_or(TpmError::Malformed { what })?;
    let result = satisfy(context, session)
        .map_err(TpmError::refused("satisfy PolicySecret(endorsement)"))
        .and_then(|()| use_session(context, session));
    let flushed = context.flush_context(SessionHandle::from(session).into());
    let value = result?;
    flushed.map_err(TpmError::refused("flush a session"))?;
    Ok(value)
}

fn satisfy(context: &mut Context, session: AuthSession) -> Result<(), Error> {
    let policy = PolicySession::try_from(session)?;
    context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.policy_secret(
                policy,
                AuthHandle::Endorsement,
                Nonce::default(),
                Digest::default(),
                Nonce::default(),
                None,
            )
        })
        .map(drop)
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
}
