//! TPMS_ATTEST of a quote (Part 2, 10.12.1). The PCR selection is compared with the pinned one here, before anybody can look at a
//! value: a quote over other registers, in more than one bank, or in another bank than the Evidence says, does not parse.

use super::attest::{self, Attest, ClockInfo};
use super::hash;
use super::wire::{Reader, WireError, demand};
use crate::pcr::{self, Bank, Digest};

/// Bytes of a selection bit map: 24 registers on a PC (PTP 4.6).
const SELECT_LEN: u8 = 3;

/// A quote over exactly the pinned registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// qualifyingData: the first half of the binding's digest.
    pub extra_data: Vec<u8>,
    /// Digest over the selected registers, by the hash of the signature.
    pub pcr_digest: Digest,
    /// Counters and clock.
    pub clock: ClockInfo,
}

/// Why a quote is not one that can be judged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuoteError {
    /// Not well formed, or not made by a TPM, or not a quote.
    #[error("the quote cannot be read: {0}")]
    Wire(#[from] WireError),
    /// Registers are not the pinned ones.
    #[error("the quote selects {found}, only {} is accepted", pinned_selection(*.bank))]
    Selection {
        /// What it selects, in words.
        found: String,
        /// The bank of the Evidence.
        bank: Bank,
    },
    /// The bank is not the one of the Evidence.
    #[error("the quote is over the {found} bank, the Evidence says {bank}")]
    Bank {
        /// The quote's.
        found: &'static str,
        /// The bank of the Evidence.
        bank: Bank,
    },
}

impl Quote {
    /// Reads a quote and demands the pinned selection of `bank`.
    pub fn parse(bytes: &[u8], bank: Bank) -> Result<Self, QuoteError> {
        let attest = Attest::parse(bytes, attest::QUOTE)?;
        let mut from = attest.rest;
        pinned(&mut from, bank)?;
        let digest = from.sized("pcrDigest")?;
        let pcr_digest = Digest::from_bytes(digest).ok_or(WireError::Value {
            what: "pcrDigest size",
            expected: 32,
            found: digest.len() as u64,
        })?;
        from.end()?;
        Ok(Self {
            extra_data: attest.extra_data.to_vec(),
            pcr_digest,
            clock: attest.clock,
        })
    }
}

/// TPML_PCR_SELECTION (Part 2, 10.9.7).
fn pinned(from: &mut Reader<'_>, bank: Bank) -> Result<(), QuoteError> {
    let count = from.u32("pcrSelect count")?;
    if count != 1 {
        return Err(QuoteError::Selection {
            found: format!("{count} banks"),
            bank,
        });
    }
    let id = from.u16("pcrSelect hash")?;
    let len = from.u8("sizeofSelect")?;
    demand("sizeofSelect", len, SELECT_LEN)?;
    let map = from.take(usize::from(len), "pcrSelect")?;
    if id != bank.tpm_alg() {
        return Err(QuoteError::Bank {
            found: hash::name_of(id),
            bank,
        });
    }
    if map != pinned_map() {
        return Err(QuoteError::Selection {
            found: selection_text(id, map),
            bank,
        });
    }
    Ok(())
}

const fn pinned_map() -> [u8; SELECT_LEN as usize] {
    let mut map = [0; SELECT_LEN as usize];
    let mut at = 0;
    while at < pcr::QUOTED.len() {
        let index = pcr::QUOTED[at];
        map[(index / 8) as usize] |= 1 << (index % 8);
        at += 1;
    }
    map
}

fn pinned_selection(bank: Bank) -> String {
    selection_text(bank.tpm_alg(), &pinned_map())
}

fn selection_text(id: u16, map: &[u8]) -> String {
    let selected: Vec<String> = (0..map.len() * 8)
        .filter(|i| map[i / 8] & (1 << (i % 8)) != 0)
        .map(|i| i.to_string())
        .collect();
    format!("{}:{}", hash::name_of(id), selected.join(","))
}

/// TPMS_QUOTE_INFO: selections and digest.
#[cfg(any(test, feature = "testing"))]
pub fn build(selections: &[(u16, &[u8])], digest: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(selections.len()).expect("few").to_be_bytes().to_vec();
    for (id, map) in selections {
        out.extend_from_slice(&id.to_be_bytes());
        out.push(u8::try_from(map.len()).expect("short"));
        out.extend_from_slice(map);
    }
    super::wire::put_sized(&mut out, digest);
    out
}

/// The bit map of the pinned registers.
#[cfg(any(test, feature = "testing"))]
pub const PINNED: [u8; 3] = pinned_map();

#[cfg(test)]
mod tests {
    use super::super::alg;
    use super::*;

    const CLOCK: ClockInfo = ClockInfo {
        clock: 7,
        reset_count: 2,
        restart_count: 0,
        safe: true,
        firmware_version: 9,
    };

    fn bytes(magic: u32, kind: u16, selections: &[(u16, &[u8])]) -> Vec<u8> {
        attest::Build {
            magic,
            kind,
            extra_data: b"extra",
            clock: CLOCK,
            attested: &build(selections, &[5; 32]),
        }
        .bytes()
    }

    fn quote(selections: &[(u16, &[u8])]) -> Result<Quote, QuoteError> {
        Quote::parse(&bytes(attest::GENERATED, attest::QUOTE, selections), Bank::Sha256)
    }

    #[test]
    fn the_pinned_quote_of_either_bank_is_read() {
        let read = quote(&[(alg::SHA256, &PINNED)]).expect("reads");
        assert_eq!((read.extra_data.as_slice(), read.clock), (&b"extra"[..], CLOCK));
        let bytes = bytes(attest::GENERATED, attest::QUOTE, &[(alg::SHA384, &PINNED)]);
        assert!(Quote::parse(&bytes, Bank::Sha384).is_ok());
    }

    #[test]
    fn what_a_tpm_did_not_generate_is_refused() {
        let bytes = bytes(0xff54_4348, attest::QUOTE, &[(alg::SHA256, &PINNED)]);
        let refused = Quote::parse(&bytes, Bank::Sha256).expect_err("magic");
        assert!(matches!(
            refused,
            QuoteError::Wire(WireError::Value { what: "magic", .. })
        ));
    }

    #[test]
    fn a_certification_that_is_no_quote_is_refused() {
        let bytes = bytes(attest::GENERATED, attest::CERTIFY, &[(alg::SHA256, &PINNED)]);
        assert!(Quote::parse(&bytes, Bank::Sha256).is_err());
    }

    #[test]
    fn fewer_more_or_other_registers_are_refused_by_name() {
        for map in [[0xef, 0x7f, 0], [0xff, 0xff, 0], [0xff, 0x7f, 0x80], [0, 0, 0]] {
            let refused = quote(&[(alg::SHA256, &map)]).expect_err("selection");
            assert!(matches!(refused, QuoteError::Selection { .. }), "{refused}");
        }
    }

    #[test]
    fn another_bank_is_refused_by_name_and_so_are_two_and_none() {
        let refused = quote(&[(alg::SHA1, &PINNED)]).expect_err("sha1");
        assert_eq!(
            refused.to_string(),
            "the quote is over the sha1 bank, the Evidence says sha256"
        );
        assert!(matches!(
            quote(&[(alg::SHA384, &PINNED)]),
            Err(QuoteError::Bank { found: "sha384", .. })
        ));
        for selections in [&[][..], &[(alg::SHA256, &PINNED[..]), (alg::SHA384, &PINNED)]] {
            assert!(matches!(quote(selections), Err(QuoteError::Selection { .. })));
        }
    }

    #[test]
    fn every_truncation_and_every_addition_is_refused() {
        let good = bytes(attest::GENERATED, attest::QUOTE, &[(alg::SHA256, &PINNED)]);
        for len in 0..good.len() {
            assert!(Quote::parse(&good[..len], Bank::Sha256).is_err());
        }
        assert!(Quote::parse(&[good.as_slice(), &[0]].concat(), Bank::Sha256).is_err());
    }
}
