//! Attestation key: a restricted signing key. By default a primary of the endorsement hierarchy by one of the fixed templates here,
//! the same key each time on one TPM, so that nothing needs to be stored; or a persistent key that the operator names.
//!
//! Must never change a template: the Verifier's AK certificate is over the key that it yields.

use tss_esapi::{
    Context, Error,
    attributes::{ObjectAttributes, ObjectAttributesBuilder},
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        ecc::EccCurve,
        key_bits::RsaKeyBits,
        resource_handles::Provision,
        session_handles::AuthSession,
    },
    structures::{
        EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public, PublicBuilder,
        PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder, RsaExponent, RsaScheme,
        SymmetricDefinitionObject,
    },
};

use crate::{
    object,
    options::{AkKind, AkSource, PersistentHandle},
    tpm::{Tpm, TpmError, public_area},
};

/// The attestation key's template (TPMT_PUBLIC).
pub(crate) fn template(kind: AkKind) -> Result<Public, TpmError> {
    match kind {
        AkKind::EccP256 => ecc(EccCurve::NistP256, HashingAlgorithm::Sha256, attributes(true)),
        AkKind::EccP384 => ecc(EccCurve::NistP384, HashingAlgorithm::Sha384, attributes(true)),
        AkKind::Rsa2048 => rsa(),
    }
    .map_err(TpmError::refused("build the attestation key's template"))
}

/// Attributes of a signing key that never leaves the TPM; `restricted`: signs nothing but what the TPM itself made.
pub(crate) fn attributes(restricted: bool) -> Result<ObjectAttributes, Error> {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        // Its authorization is empty, so guessing it is no attack. With dictionary-attack protection each power cut after a use
        // counts as a failed try (TPM 2.0 Part 1, 19.8.6), and a machine that crashed a few times could not attest.
        .with_no_da(true)
        .with_restricted(restricted)
        .with_sign_encrypt(true)
        .build()
}

/// An ECDSA key of `curve` that signs `hash` and is named by it.
pub(crate) fn ecc(
    curve: EccCurve,
    hash: HashingAlgorithm,
    attributes: Result<ObjectAttributes, Error>,
) -> Result<Public, Error> {
    let attributes = attributes?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(hash)))
        .with_curve(curve)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(attributes.restricted())
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(hash)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

fn rsa() -> Result<Public, Error> {
    let parameters = PublicRsaParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_scheme(RsaScheme::RsaSsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_key_bits(RsaKeyBits::Rsa2048)
        .with_exponent(RsaExponent::default())
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes(true)?)
        .with_rsa_parameters(parameters)
        .with_rsa_unique_identifier(PublicKeyRsa::default())
        .build()
}

/// Lends the attestation key that `source` names to `borrow`.
pub(crate) fn with_ak<T>(
    context: &mut Context,
    source: AkSource,
    borrow: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    match source {
        AkSource::Template(kind) => object::with_primary(context, template(kind)?, borrow),
        AkSource::Persistent(handle) => object::with_persistent(context, handle, |context, key, public| {
            check_fit(public, handle)?;
            borrow(context, key, public)
        }),
    }
}

/// A key that is not what an AK must be would only be refused by the Verifier, with less to go by.
fn check_fit(public: &Public, handle: PersistentHandle) -> Result<(), TpmError> {
    let has = public.object_attributes();
    let fit = [
        (has.fixed_tpm(), "fixedTPM"),
        (has.fixed_parent(), "fixedParent"),
        (has.sensitive_data_origin(), "sensitiveDataOrigin"),
        (has.restricted(), "restricted"),
        (has.sign_encrypt(), "sign"),
        (!has.decrypt(), "no decrypt"),
    ];
    match fit.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, lacks)) => Err(TpmError::UnfitKey {
            handle: handle.value(),
            lacks,
        }),
    }
}

impl Tpm {
    /// The attestation key's public part, a TPM2B_PUBLIC.
    pub fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        with_ak(&mut self.context, self.options.ak, |_, _, public| {
            public_area(public, "the attestation key")
        })
    }

    /// What systemd makes the same key by: the template, a TPM2B_PUBLIC, and the key that comes of it.
    pub fn attestation_template(&mut self) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let AkSource::Template(kind) = self.options.ak else {
            return Err(TpmError::NoTemplate);
        };
        let template = public_area(&template(kind)?, "the attestation key's template")?;
        Ok((template, self.attestation_key()?))
    }

    /// Keeps the attestation key of the chosen template in the TPM at `handle` (TPM2_EvictControl by the owner, whose authorization
    /// must be empty), and gives its TPM2B_PUBLIC. Nothing happens when it is there already; another object there is an error.
    pub fn persist_ak(&mut self, handle: u32) -> Result<Vec<u8>, TpmError> {
        let handle = PersistentHandle::of_owner(handle)?;
        let AkSource::Template(kind) = self.options.ak else {
            return Err(TpmError::AlreadyPersistent);
        };
        let occupied = object::exists(&mut self.context, handle.value())?;
        object::with_primary(&mut self.context, template(kind)?, |context, key, public| {
            if occupied {
                check_same(context, handle, public)?;
            } else {
                keep(context, key, handle).map_err(TpmError::refused("keep the attestation key at that handle"))?;
            }
            public_area(public, "the attestation key")
        })
    }
}

fn check_same(context: &mut Context, handle: PersistentHandle, wanted: &Public) -> Result<(), TpmError> {
    object::with_persistent(context, handle, |_, _, found| {
        if found == wanted {
            Ok(())
        } else {
            Err(TpmError::HandleOccupied { handle: handle.value() })
        }
    })
}

fn keep(context: &mut Context, key: KeyHandle, handle: PersistentHandle) -> Result<(), Error> {
    let handle = PersistentTpmHandle::new(handle.value())?;
    let mut kept = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.evict_control(
            Provision::Owner,
            ObjectHandle::from(key),
            Persistent::Persistent(handle),
        )
    })?;
    context.tr_close(&mut kept)
}
