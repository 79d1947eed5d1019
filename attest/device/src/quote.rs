//! TPM2_Quote over the sha256 bank, PCRs 0 to 14, together with the PCR values that it covers.
//!
//! Must never return values that the quote does not cover: they are read, quoted and compared by digest.

use std::collections::BTreeMap;

use tss_esapi::{
    Context,
    abstraction::pcr::PcrData,
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{AttestInfo, Data, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, SignatureScheme},
    traits::Marshall,
};

use crate::{
    ak,
    tpm::{Tpm, TpmError},
};

/// The PCRs in every quote.
pub const QUOTED_PCRS: std::ops::RangeInclusive<u32> = 0..=14;

/// PCR 10 (IMA) and 11 (systemd) may move while a quote is taken; beyond this many times something is wrong.
const TRIES: u32 = 8;

/// A quote and the values it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// TPMS_ATTEST, as signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub signature: Vec<u8>,
    /// Index to value, sha256 bank.
    pub pcrs: BTreeMap<u32, [u8; 32]>,
}

impl Tpm {
    /// Quotes [`QUOTED_PCRS`] by the attestation key with `qualifying` as qualifying data.
    pub fn quote(&mut self, qualifying: &[u8; 32]) -> Result<Quoted, TpmError> {
        let selection = selection()?;
        let data = Data::try_from(qualifying.as_slice()).map_err(TpmError::refused("take the qualifying data"))?;
        self.with_primary(ak::template()?, |context, ak, _| {
            for _ in 0..TRIES {
                let before = read(context, &selection)?;
                let (attest, signature) = context
                    .execute_with_session(Some(AuthSession::Password), |context| {
                        context.quote(ak, data.clone(), SignatureScheme::Null, selection.clone())
                    })
                    .map_err(TpmError::refused("quote"))?;
                if read(context, &selection)? != before {
                    continue;
                }
                let AttestInfo::Quote { .. } = attest.attested() else {
                    return Err(TpmError::Malformed { what: "a quote" });
                };
                return Ok(Quoted {
                    attest: attest.marshall().map_err(TpmError::refused("marshal a quote"))?,
                    signature: signature.marshall().map_err(TpmError::refused("marshal a signature"))?,
                    pcrs: before,
                });
            }
            Err(TpmError::Unsettled { tries: TRIES })
        })
    }
}

fn slots() -> Result<Vec<PcrSlot>, TpmError> {
    QUOTED_PCRS
        .map(|index| PcrSlot::try_from(1u32 << index).map_err(TpmError::refused("select PCRs")))
        .collect()
}

fn selection() -> Result<PcrSelectionList, TpmError> {
    PcrSelectionListBuilder::new()
        .with_selection(HashingAlgorithm::Sha256, &slots()?)
        .build()
        .map_err(TpmError::refused("select PCRs"))
}

/// Reads the whole selection, eight PCRs a command as the TPM gives them.
fn read(context: &mut Context, selection: &PcrSelectionList) -> Result<BTreeMap<u32, [u8; 32]>, TpmError> {
    let malformed = || TpmError::Malformed {
        what: "its sha256 PCRs (is the sha256 bank active?)",
    };
    let mut data = PcrData::new();
    let mut left = selection.clone();
    while !left.is_empty() {
        let (_, read, digests) = context
            .execute_without_session(|context| context.pcr_read(left.clone()))
            .map_err(TpmError::refused("read its PCRs"))?;
        // A TPM without the bank answers with nothing, for ever.
        if digests.value().is_empty() {
            return Err(malformed());
        }
        data.add(&read, &digests).map_err(TpmError::refused("read its PCRs"))?;
        left.subtract(&read).map_err(TpmError::refused("read its PCRs"))?;
    }
    let bank = data.pcr_bank(HashingAlgorithm::Sha256).ok_or_else(malformed)?;
    QUOTED_PCRS
        .zip(slots()?)
        .map(|(index, slot)| {
            let digest = bank.get_digest(slot).ok_or_else(malformed)?;
            Ok((index, digest.value().try_into().map_err(|_| malformed())?))
        })
        .collect()
}
