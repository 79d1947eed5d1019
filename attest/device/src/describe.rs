//! What kind of TPM this is, for status and diagnosis.
//!
//! Must never make a key: on some TPMs that takes seconds.

use tss_esapi::{
    constants::{CapabilityType, PropertyTag},
    interface_types::algorithm::HashingAlgorithm,
    structures::CapabilityData,
};

use crate::{
    options::EkKind,
    tpm::{Tpm, TpmError},
};

/// A TPM in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Active PCR banks by name, in the TPM's order.
    pub banks: Vec<String>,
    /// The attestation key as configured.
    pub ak: String,
    /// The endorsement key that enrolment uses.
    pub ek: EkKind,
    /// Endorsement keys that the manufacturer certified.
    pub ek_certificates: Vec<EkKind>,
    /// Four letters of the TCG's vendor registry, such as `IFX`.
    pub manufacturer: String,
    /// Firmware version, in the vendor's own numbering.
    pub firmware: u64,
}

impl Tpm {
    /// Asks the TPM about itself.
    pub fn describe(&mut self) -> Result<Description, TpmError> {
        let property = |tpm: &mut Self, tag| tpm.property(tag).map(Option::unwrap_or_default);
        let manufacturer = property(self, PropertyTag::Manufacturer)?;
        let high = property(self, PropertyTag::FirmwareVersion1)?;
        let low = property(self, PropertyTag::FirmwareVersion2)?;
        Ok(Description {
            banks: self.active_banks()?,
            ak: self.options.ak.to_string(),
            ek: self.endorsement_kind()?,
            ek_certificates: self.certified()?,
            manufacturer: letters(manufacturer),
            firmware: u64::from(high) << 32 | u64::from(low),
        })
    }

    fn property(&mut self, tag: PropertyTag) -> Result<Option<u32>, TpmError> {
        self.context
            .execute_without_session(|context| context.get_tpm_property(tag))
            .map_err(TpmError::refused("tell its properties"))
    }

    fn active_banks(&mut self) -> Result<Vec<String>, TpmError> {
        let (found, _) = self
            .context
            .execute_without_session(|context| context.get_capability(CapabilityType::AssignedPcr, 0, 1))
            .map_err(TpmError::refused("list its PCR banks"))?;
        let CapabilityData::AssignedPcr(banks) = found else {
            return Err(TpmError::Malformed {
                what: "the list of its PCR banks",
            });
        };
        let active = banks.get_selections().iter().filter(|bank| !bank.is_empty());
        Ok(active.map(|bank| bank_name(bank.hashing_algorithm())).collect())
    }
}

fn bank_name(algorithm: HashingAlgorithm) -> String {
    format!("{algorithm:?}").to_lowercase()
}

/// Vendor ids are ASCII, filled up with zeros or spaces (TCG Vendor ID Registry).
fn letters(id: u32) -> String {
    let printable = |byte: &u8| byte.is_ascii_graphic();
    id.to_be_bytes()
        .iter()
        .filter(|byte| printable(byte))
        .map(|byte| char::from(*byte))
        .collect()
}
