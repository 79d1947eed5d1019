//! TPMS_ATTEST of type quote (Part 2, 10.12.8). The magic proves that the TPM made the structure itself, and the PCR selection is
//! compared with the pinned one here, before anybody can look at a value: a quote over other registers or another bank does not parse.

use super::alg;
use super::wire::{Reader, WireError, demand};
use crate::pcr::{self, Bank, Digest};

const TPM_GENERATED_VALUE: u32 = 0xff54_4347;
const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;
/// Bytes of a selection bit map: 24 registers on a PC (PTP 4.6).
const SELECT_LEN: u8 = 3;

/// A quote over exactly the pinned registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// qualifyingData: the first half of the binding's digest.
    pub extra_data: Vec<u8>,
    /// The signing scheme's hash over the selected registers.
    pub pcr_digest: Digest,
    /// TPM Resets so far (reboots). Obfuscated per key for keys outside the endorsement hierarchy, therefore only compared.
    pub reset_count: u32,
    /// TPM Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Milliseconds of TPM time.
    pub clock: u64,
    /// No value of `clock` greater than this one was ever reported.
    pub safe: bool,
    /// The vendor's firmware version.
    pub firmware_version: u64,
}

/// Why a quote is not one that can be judged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuoteError {
    /// Not well formed, or not made by a TPM, or not a quote.
    #[error("the quote cannot be read: {0}")]
    Wire(#[from] WireError),
    /// Registers or bank are not the pinned ones.
    #[error("the quote selects {found}, only {pinned} is accepted")]
    Selection {
        /// What it selects, in words.
        found: String,
        /// What it should have selected, in words.
        pinned: String,
    },
}

impl Quote {
    /// Reads a quote and demands the pinned selection of `bank`.
    pub fn parse(bytes: &[u8], bank: Bank) -> Result<Self, QuoteError> {
        let mut from = Reader::new(bytes);
        demand("magic", from.u32("magic")?, TPM_GENERATED_VALUE)?;
        demand("type", from.u16("type")?, TPM_ST_ATTEST_QUOTE)?;
        from.sized("qualifiedSigner")?;
        let extra_data = from.sized("extraData")?.to_vec();
        let clock = from.u64("clock")?;
        let reset_count = from.u32("resetCount")?;
        let restart_count = from.u32("restartCount")?;
        let safe = from.u8("safe")? == 1;
        let firmware_version = from.u64("firmwareVersion")?;
        pinned(&mut from, bank)?;
        let digest = from.sized("pcrDigest")?;
        let pcr_digest = Digest::from_bytes(digest).ok_or(WireError::Value {
            what: "pcrDigest size",
            found: digest.len() as u64,
            expected: 32,
        })?;
        from.end()?;
        Ok(Self {
            extra_data,
            pcr_digest,
            reset_count,
            restart_count,
            clock,
            safe,
            firmware_version,
        })
    }
}

/// TPML_PCR_SELECTION (Part 2, 10.9.7).
fn pinned(from: &mut Reader<'_>, bank: Bank) -> Result<(), QuoteError> {
    let count = from.u32("pcrSelect count")?;
    if count != 1 {
        return Err(QuoteError::Selection {
            found: format!("{count} banks"),
            pinned: pinned_selection(bank),
        });
    }
    let hash = from.u16("pcrSelect hash")?;
    let len = from.u8("sizeofSelect")?;
    demand("sizeofSelect", len, SELECT_LEN)?;
    let map = from.take(usize::from(len), "pcrSelect")?;
    if hash != bank.tpm_alg() || map != pinned_map() {
        return Err(QuoteError::Selection {
            found: selection_text(hash, map),
            pinned: pinned_selection(bank),
        });
    }
    Ok(())
}

fn pinned_map() -> [u8; SELECT_LEN as usize] {
    let mut map = [0; SELECT_LEN as usize];
    for index in pcr::QUOTED {
        map[usize::from(index) / 8] |= 1 << (index % 8);
    }
    map
}

fn pinned_selection(bank: Bank) -> String {
    selection_text(bank.tpm_alg(), &pinned_map())
}

fn selection_text(hash: u16, map: &[u8]) -> String {
    let bank = match hash {
        0x0004 => "sha1",
        alg::SHA256 => "sha256",
        0x000c => "sha384",
        0x000d => "sha512",
        _ => "an unknown bank",
    };
    let selected: Vec<String> = (0..map.len() * 8)
        .filter(|i| map[i / 8] & (1 << (i % 8)) != 0)
        .map(|i| i.to_string())
        .collect();
    format!("{bank}:{}", selected.join(","))
}

/// A quote for tests of other modules, and of this one.
#[cfg(test)]
pub(crate) fn build(magic: u32, kind: u16, extra: &[u8], hash: u16, map: &[u8], digest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&magic.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    super::wire::put_sized(&mut out, &[0; 34]);
    super::wire::put_sized(&mut out, extra);
    out.extend_from_slice(&7u64.to_be_bytes());
    out.extend_from_slice(&2u32.to_be_bytes());
    out.extend_from_slice(&0u32.to_be_bytes());
    out.push(1);
    out.extend_from_slice(&9u64.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&hash.to_be_bytes());
    out.push(map.len() as u8);
    out.extend_from_slice(map);
    super::wire::put_sized(&mut out, digest);
    out
}

#[cfg(test)]
pub(crate) fn pinned_quote(extra: &[u8], pcrs: &pcr::Pcrs) -> Vec<u8> {
    build(
        TPM_GENERATED_VALUE,
        TPM_ST_ATTEST_QUOTE,
        extra,
        pcrs.bank.tpm_alg(),
        &pinned_map(),
        pcrs.digest(Bank::Sha256).as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [u8; 3] = [0xff, 0x7f, 0x00];

    fn quote(magic: u32, kind: u16, hash: u16, map: &[u8]) -> Result<Quote, QuoteError> {
        Quote::parse(&build(magic, kind, b"extra", hash, map, &[5; 32]), Bank::Sha256)
    }

    #[test]
    fn the_pinned_quote_is_read() {
        let quote = quote(TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE, alg::SHA256, &GOOD).expect("reads");
        assert_eq!(quote.extra_data, b"extra");
        assert_eq!((quote.reset_count, quote.clock, quote.safe), (2, 7, true));
    }

    #[test]
    fn what_a_tpm_did_not_generate_is_refused() {
        let refused = quote(0xff54_4348, TPM_ST_ATTEST_QUOTE, alg::SHA256, &GOOD).expect_err("magic");
        assert!(matches!(
            refused,
            QuoteError::Wire(WireError::Value { what: "magic", .. })
        ));
    }

    #[test]
    fn a_certification_that_is_no_quote_is_refused() {
        assert!(quote(TPM_GENERATED_VALUE, 0x8017, alg::SHA256, &GOOD).is_err());
    }

    #[test]
    fn fewer_more_or_other_registers_are_refused_by_name() {
        for map in [[0xef, 0x7f, 0], [0xff, 0xff, 0], [0xff, 0x7f, 0x80], [0, 0, 0]] {
            let refused = quote(TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE, alg::SHA256, &map).expect_err("selection");
            assert!(matches!(refused, QuoteError::Selection { .. }), "{refused}");
        }
    }

    #[test]
    fn another_bank_is_refused() {
        let refused = quote(TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE, 4, &GOOD).expect_err("sha1");
        assert!(refused.to_string().contains("sha1:0,1,2"), "{refused}");
    }

    #[test]
    fn every_truncation_and_every_addition_is_refused() {
        let good = build(
            TPM_GENERATED_VALUE,
            TPM_ST_ATTEST_QUOTE,
            b"e",
            alg::SHA256,
            &GOOD,
            &[5; 32],
        );
        for len in 0..good.len() {
            assert!(Quote::parse(&good[..len], Bank::Sha256).is_err());
        }
        assert!(Quote::parse(&[good.as_slice(), &[0]].concat(), Bank::Sha256).is_err());
    }
}
