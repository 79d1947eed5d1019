//! TPM2_Quote over the chosen bank, PCRs 0 to 14, together with the PCR values that it covers.
//!
//! Must never return values that the quote does not cover: they are read before and after it and must not have moved.

use rempart_attest::pcr::{self, Bank, Digest};
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

/// PCR 10 (IMA) and 11 (systemd) may move while a quote is taken; beyond this many times something is wrong.
const TRIES: u32 = 8;

/// A quote and the values it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// Of which bank.
    pub bank: Bank,
    /// TPMS_ATTEST, as signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub signature: Vec<u8>,
    /// Index and value of each register of [`pcr::QUOTED`], in that order.
    pub pcrs: Vec<(u8, Digest)>,
}

impl Tpm {
    /// Quotes [`pcr::QUOTED`] of the chosen bank by the attestation key, with `qualifying` as qualifying data.
    pub fn quote(&mut self, qualifying: &[u8; 32]) -> Result<Quoted, TpmError> {
        let bank = self.options.bank;
        let selection = selection(bank)?;
        let data = Data::try_from(qualifying.as_slice()).map_err(TpmError::refused("take the qualifying data"))?;
        ak::with_ak(&mut self.context, self.options.ak, |context, ak, _| {
            for _ in 0..TRIES {
                let before = read(context, bank, &selection)?;
                let (attest, signature) = context
                    .execute_with_session(Some(AuthSession::Password), |context| {
                        context.quote(ak, data.clone(), SignatureScheme::Null, selection.clone())
                    })
                    .map_err(TpmError::refused("quote"))?;
                if read(context, bank, &selection)? != before {
                    continue;
                }
                let AttestInfo::Quote { .. } = attest.attested() else {
                    return Err(TpmError::Malformed { what: "a quote" });
                };
                return Ok(Quoted {
                    bank,
                    attest: attest.marshall().map_err(TpmError::refused("marshal a quote"))?,
                    signature: signature.marshall().map_err(TpmError::refused("marshal a signature"))?,
                    pcrs: before,
                });
            }
            Err(TpmError::Unsettled { tries: TRIES })
        })
    }
}

pub(crate) fn algorithm(bank: Bank) -> HashingAlgorithm {
    match bank {
        Bank::Sha256 => HashingAlgorithm::Sha256,
        Bank::Sha384 => HashingAlgorithm::Sha384,
    }
}

fn slots() -> Result<Vec<PcrSlot>, TpmError> {
    pcr::QUOTED
        .iter()
        .map(|index| PcrSlot::try_from(1u32 << index).map_err(TpmError::refused("select PCRs")))
        .collect()
}

fn selection(bank: Bank) -> Result<PcrSelectionList, TpmError> {
    PcrSelectionListBuilder::new()
        .with_selection(algorithm(bank), &slots()?)
        .build()
        .map_err(TpmError::refused("select PCRs"))
}

/// Reads the whole selection, eight PCRs a command as the TPM gives them.
fn read(context: &mut Context, bank: Bank, selection: &PcrSelectionList) -> Result<Vec<(u8, Digest)>, TpmError> {
    let malformed = || TpmError::Malformed { what: "its PCRs" };
    let mut data = PcrData::new();
    let mut left = selection.clone();
    while !left.is_empty() {
        let (_, read, digests) = context
            .execute_without_session(|context| context.pcr_read(left.clone()))
            .map_err(TpmError::refused("read its PCRs"))?;
        // A TPM without the bank answers with nothing, for ever.
        if digests.value().is_empty() {
            return Err(TpmError::NoBank { bank });
        }
        data.add(&read, &digests).map_err(TpmError::refused("read its PCRs"))?;
        left.subtract(&read).map_err(TpmError::refused("read its PCRs"))?;
    }
    let values = data.pcr_bank(algorithm(bank)).ok_or_else(malformed)?;
    pcr::QUOTED
        .into_iter()
        .zip(slots()?)
        .map(|(index, slot)| {
            let digest = values.get_digest(slot).ok_or_else(malformed)?;
            let digest = Digest::from_bytes(digest.value()).filter(|digest| digest.bank() == bank);
            Ok((index, digest.ok_or_else(malformed)?))
        })
        .collect()
}
