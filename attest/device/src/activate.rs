//! TPM2_ActivateCredential: shows the Verifier that the attestation key lives in the TPM of the endorsement key, under the policies
//! of the EK Credential Profile (policy A for the low-range templates; policy B, an OR of A and C, for the high range).
//!
//! Must never use the endorsement key with any other command.

use tss_esapi::{
    Context, Error,
    constants::SessionType,
    handles::{AuthHandle, SessionHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, DigestList, EncryptedSecret, IdObject, Nonce, SymmetricDefinition},
};

use crate::{
    ak, ek, object,
    options::EkKind,
    tpm::{Tpm, TpmError, unsized_body},
};

/// PolicyA with SHA-384: PolicySecret(TPM_RH_ENDORSEMENT) (EK Credential Profile, B.6.2).
const POLICY_A_SHA384: [u8; 48] = [
    0x8b, 0xbf, 0x22, 0x66, 0x53, 0x7c, 0x17, 0x1c, 0xb5, 0x6e, 0x40, 0x3c, 0x4d, 0xc1, 0xd4, 0xb6, 0x4f, 0x43, 0x26,
    0x11, 0xdc, 0x38, 0x6e, 0x6f, 0x53, 0x20, 0x50, 0xc3, 0x27, 0x8c, 0x93, 0x0e, 0x14, 0x3e, 0x8b, 0xb1, 0x13, 0x38,
    0x24, 0xcc, 0xb4, 0x31, 0x05, 0x38, 0x71, 0xc6, 0xdb, 0x53,
];
/// PolicyC with SHA-384: PolicyAuthorizeNV on index 0x01c07f02 (EK Credential Profile, B.6.4). Never satisfied here, only named.
const POLICY_C_SHA384: [u8; 48] = [
    0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37, 0xef, 0x2b, 0x6a, 0x16,
    0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21, 0x7a, 0xd5, 0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6,
    0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
];

impl Tpm {
    /// The secret that the Verifier encrypted to this TPM's endorsement key for its attestation key.
    /// `id_object` is a TPM2B_ID_OBJECT, `secret` a TPM2B_ENCRYPTED_SECRET.
    pub fn activate_credential(&mut self, id_object: &[u8], secret: &[u8]) -> Result<Vec<u8>, TpmError> {
        let id_object = credential_part(id_object, "TPM2B_ID_OBJECT", |body| IdObject::try_from(body))?;
        let secret = credential_part(secret, "TPM2B_ENCRYPTED_SECRET", |body| EncryptedSecret::try_from(body))?;
        let kind = self.endorsement_kind()?;
        let source = self.options.ak;
        object::with_primary(&mut self.context, ek::template(kind)?, |context, ek, _| {
            ak::with_ak(context, source, |context, ak, _| {
                with_endorsement_policy(context, kind, |context, policy| {
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
}

fn credential_part<T>(
    bytes: &[u8],
    what: &'static str,
    read: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, TpmError> {
    read(unsized_body(bytes, what)?).map_err(|_| TpmError::CredentialMalformed { what })
}

/// Lends a policy session that satisfies the policy of the EK template of `kind`.
fn with_endorsement_policy<T>(
    context: &mut Context,
    kind: EkKind,
    borrow: impl FnOnce(&mut Context, AuthSession) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let what = "start a policy session";
    // A policy is computed with the hash that names the object which it protects.
    let hash = match kind {
        EkKind::Rsa2048 | EkKind::EccP256 => HashingAlgorithm::Sha256,
        EkKind::EccP384 => HashingAlgorithm::Sha384,
    };
    let session = context
        .execute_without_session(|context| {
            context.start_auth_session(
                None,
                None,
                None,
                SessionType::Policy,
                SymmetricDefinition::AES_128_CFB,
                hash,
            )
        })
        .map_err(TpmError::refused(what))?
        .ok_or(TpmError::Malformed { what })?;
    let result = satisfy(context, kind, session)
        .map_err(TpmError::refused("satisfy the endorsement key's policy"))
        .and_then(|()| borrow(context, session));
    let flushed = context.flush_context(SessionHandle::from(session).into());
    let value = result?;
    flushed.map_err(TpmError::refused("flush a session"))?;
    Ok(value)
}

fn satisfy(context: &mut Context, kind: EkKind, session: AuthSession) -> Result<(), Error> {
    let policy = PolicySession::try_from(session)?;
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.policy_secret(
            policy,
            AuthHandle::Endorsement,
            Nonce::default(),
            Digest::default(),
            Nonce::default(),
            None,
        )
    })?;
    match kind {
        EkKind::Rsa2048 | EkKind::EccP256 => Ok(()),
        EkKind::EccP384 => {
            let branches = policy_b_branches()?;
            context.execute_without_session(|context| context.policy_or(policy, branches))
        }
    }
}

/// The order counts: PolicyOR hashes the list.
fn policy_b_branches() -> Result<DigestList, Error> {
    let mut branches = DigestList::new();
    for branch in [POLICY_A_SHA384, POLICY_C_SHA384] {
        branches.add(Digest::try_from(branch.as_slice())?)?;
    }
    Ok(branches)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA384, digest};

    use super::*;

    /// Policy digests as Part 3 computes them (23.4, 23.6, 23.22): the constants are what the specification's text means, and
    /// together they are the authPolicy of template H-3.
    #[test]
    fn the_branches_are_those_of_the_high_range_template() {
        let hash = |parts: &[&[u8]]| digest(&SHA384, &parts.concat()).as_ref().to_vec();
        let secret = hash(&[&[0; 48], &0x0000_0151_u32.to_be_bytes(), &0x4000_000b_u32.to_be_bytes()]);
        assert_eq!(hash(&[&secret]), POLICY_A_SHA384);

        // TPMS_NV_PUBLIC of index I-2: 50 bytes, written and read under PolicyA.
        let nv_public = [
            &0x01c0_7f02_u32.to_be_bytes()[..],
            &0x000c_u16.to_be_bytes(),
            &0x220f_1008_u32.to_be_bytes(),
            &48_u16.to_be_bytes(),
            &POLICY_A_SHA384,
            &50_u16.to_be_bytes(),
        ]
        .concat();
        let name = [&0x000c_u16.to_be_bytes()[..], &hash(&[&nv_public])].concat();
        assert_eq!(
            hash(&[&[0; 48], &0x0000_0192_u32.to_be_bytes(), &name]),
            POLICY_C_SHA384
        );

        let or = hash(&[
            &[0; 48],
            &0x0000_0171_u32.to_be_bytes(),
            &POLICY_A_SHA384,
            &POLICY_C_SHA384,
        ]);
        let template = ek::template(EkKind::EccP384).expect("template H-3");
        assert_eq!(or, template.auth_policy().value());
    }
}
