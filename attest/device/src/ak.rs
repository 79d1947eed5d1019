//! Attestation key: a restricted ECC P-256 signing primary in the endorsement hierarchy. The template is
//! fixed, hence the key is the same each time on one TPM and nothing needs to be stored.
//!
//! Must never change its template: the Verifier's AK certificate is over the key that it yields.

use tss_esapi::{
    Error,
    attributes::ObjectAttributesBuilder,
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
    },
    structures::{
        EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public, PublicBuilder,
        PublicEccParametersBuilder, SymmetricDefinitionObject,
    },
    traits::Marshall,
};

use crate::tpm::{Tpm, TpmError, sized};

/// The attestation key's template (TPMT_PUBLIC).
pub(crate) fn template() -> Result<Public, TpmError> {
    build().map_err(TpmError::refused("build the attestation key's template"))
}

fn build() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        // Its authorization is empty, so guessing it is no attack. With dictionary-attack protection each power cut after a use
        // counts as a failed try (TPM 2.0 Part 1, 19.8.6), and a machine that crashed a few times could not attest.
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

impl Tpm {
    /// The attestation key's public part, a TPM2B_PUBLIC.
    pub fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        self.with_primary(template()?, |_, _, public| {
            let body = public
                .marshall()
                .map_err(TpmError::refused("marshal the attestation key"))?;
            sized(&body, "the attestation key")
        })
    }
}
