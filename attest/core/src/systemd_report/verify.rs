//! Every check of a report, each with an error of its own, and all of them run: an operator sees every reason at once.

use std::collections::BTreeMap;

use super::sequence::{self, Component, Kind, NvPcr, Report, TpmSignature};
use super::{BOOT_ID, FACTS, Freshness, HeldNvPcr, IDENTITY_PCR, SystemdReport, audit};
use crate::bytes::Fixed;
use crate::eventlog::printable;
use crate::limits;
use crate::pcr::{Bank, Digest, PcrValue, Pcrs};
use crate::tpm::attest::{self, Attest, ClockInfo};
use crate::tpm::signature::{Signature, SignatureError};
use crate::tpm::wire::{Reader, WireError, demand};
use crate::tpm::{Hash, PublicKey};

/// TPMA_NV bits 7:4 (Part 2, 13.4) of an index that can only be extended.
const NV_EXTEND: u32 = 4;

/// What the rest of the Evidence says, as far as it is known: where a part of that failed, its own finding tells.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// The AK of the Evidence.
    pub ak: &'a PublicKey,
    /// This round's binding, the part that a TPM takes.
    pub nonce: Option<&'a [u8]>,
    /// Clock and counters of the Evidence's quote.
    pub clock: Option<&'a ClockInfo>,
    /// The quoted registers.
    pub pcrs: Option<&'a Pcrs>,
    /// PCR 15 as the logs have it.
    pub identity: PcrValue,
    /// The boot that the binding covers.
    pub boot_id: &'a Fixed<16>,
}

/// Why a report does not count. The node that sent it is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Over its maximum.
    #[error("systemd's report has {found} bytes, {} are allowed", limits::SYSTEMD_REPORT)]
    TooLarge {
        /// Its size, bytes.
        found: usize,
    },
    /// Not what systemd writes.
    #[error("record {record} of systemd's report cannot be read: {why}")]
    Malformed {
        /// Its number, from 1.
        record: usize,
        /// What is wrong.
        why: String,
    },
    /// Nobody enrolled signed it.
    #[error(
        "{found} of the signatures under systemd's report are by this node's attestation key, exactly one is accepted"
    )]
    Key {
        /// How many.
        found: usize,
    },
    /// Not a quote, certifications of NvPCRs and an audit, in this order.
    #[error(
        "the signature under systemd's report is not one quote, certifications of NvPCRs and one session audit, in this order"
    )]
    Components,
    /// An attestation that cannot be read, or is of another kind than it says.
    #[error("attestation {component} under systemd's report cannot be read: {why}")]
    Attestation {
        /// Its number, from 1.
        component: usize,
        /// What is wrong.
        why: WireError,
    },
    /// An attestation that the AK did not sign.
    #[error("attestation {component} under systemd's report: {why}")]
    Signature {
        /// Its number, from 1.
        component: usize,
        /// What is wrong.
        why: String,
    },
    /// The TPM signed another report.
    #[error("the signature under systemd's report is over another report")]
    Digest,
    /// An NvPCR that is not the index, or not over the data, that came with it.
    #[error("NvPCR \"{name}\" under systemd's report: {why}")]
    NvPcr {
        /// What it is called.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Other commands, or in another order, than those shown.
    #[error("the audit session under systemd's report had other commands than are shown")]
    Audit,
    /// Something else used the TPM meanwhile.
    #[error("the audit session under systemd's report was not exclusive")]
    Shared,
    /// Made for another exchange.
    #[error("systemd's report carries the nonce of another exchange")]
    Nonce,
    /// Of another boot, or not in the order of time.
    #[error("systemd's report is of another boot: {what} differs from the quote's, or runs back")]
    Boot {
        /// Which.
        what: &'static str,
    },
    /// Too old, or younger than the quote.
    #[error(
        "systemd's report was begun {age} ms before the quote by the TPM's clock, 0 to {} are accepted",
        limits::SYSTEMD_REPORT_AGE
    )]
    Age {
        /// Milliseconds; negative when it was ended after the quote.
        age: i128,
    },
    /// Over registers of another bank, or of several.
    #[error(
        "systemd quoted another PCR bank than the {bank} bank of this Evidence, so the registers cannot be compared"
    )]
    Bank {
        /// The Evidence's.
        bank: Bank,
    },
    /// Over registers that are not known here.
    #[error("systemd quoted PCR {pcr}, which this Evidence does not show")]
    Register {
        /// Which.
        pcr: u8,
    },
    /// Over other values.
    #[error("the registers that systemd quoted have other values than this Evidence shows")]
    Registers,
}

impl ReportError {
    /// Name of the check that failed.
    pub fn check(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Malformed { .. } => "systemd-report",
            Self::Key { .. } => "systemd-report-key",
            Self::Components => "systemd-report-components",
            Self::Attestation { .. } => "systemd-report-attestation",
            Self::Signature { .. } => "systemd-report-signature",
            Self::Digest => "systemd-report-digest",
            Self::NvPcr { .. } => "systemd-report-nvpcr",
            Self::Audit => "systemd-report-audit",
            Self::Shared => "systemd-report-exclusive",
            Self::Nonce => "systemd-report-nonce",
            Self::Boot { .. } => "systemd-report-boot",
            Self::Age { .. } => "systemd-report-age",
            Self::Bank { .. } => "systemd-report-bank",
            Self::Register { .. } | Self::Registers => "systemd-report-registers",
        }
    }
}

/// The attestations of a signature, each read as what it says it is.
struct Attested<'a> {
    quote: Quote<'a>,
    nvpcrs: Vec<(&'a NvPcr, Certified<'a>)>,
    audit: Audit<'a>,
    clocks: Vec<ClockInfo>,
}

/// TPMS_QUOTE_INFO (Part 2, 10.12.1).
struct Quote<'a> {
    extra_data: &'a [u8],
    /// TPM_ALG_ID and registers.
    selections: Vec<(u16, Vec<u8>)>,
    digest: &'a [u8],
}

/// TPMS_NV_CERTIFY_INFO (Part 2, 10.12.8).
struct Certified<'a> {
    extra_data: &'a [u8],
    index_name: &'a [u8],
    offset: u16,
    contents: &'a [u8],
}

/// TPMS_SESSION_AUDIT_INFO (Part 2, 10.12.5).
struct Audit<'a> {
    extra_data: &'a [u8],
    exclusive: bool,
    digest: &'a [u8],
    hash: u16,
}

/// Verifies the report in `bytes` against the rest of the same Evidence. All that fail are given.
pub fn verify(bytes: &[u8], against: &Against<'_>) -> Result<SystemdReport, Vec<ReportError>> {
    let report = sequence::parse(bytes).map_err(|e| vec![e])?;
    let signature = by_ak(&report, against.ak).map_err(|e| vec![e])?;
    let mut errors = Vec::new();
    errors.extend(are_signed(signature, against.ak));
    let attested = match attestations(&signature.components) {
        Ok(attested) => attested,
        Err(more) => {
            errors.extend(more);
            return Err(errors);
        }
    };
    errors.extend(is_over_the_report(signature, &attested.audit, &report.digest).err());
    errors.extend(
        attested
            .nvpcrs
            .iter()
            .filter_map(|(index, c)| is_the_index(index, c).err()),
    );
    errors.extend(are_distinct(&attested.nvpcrs).err());
    errors.extend(audit_reproduces(signature, &attested).err());
    errors.extend(is_exclusive(&attested.audit).err());
    let freshness = is_of_this_round(&report, against.nonce)
        .map_err(|e| errors.push(e))
        .ok();
    errors.extend(is_of_this_boot(&attested.clocks, against.clock).err());
    errors.extend(names_this_boot(&report, against.boot_id).err());
    errors.extend(is_young(&attested.clocks, against.clock).err());
    let registers = against
        .pcrs
        .map(|pcrs| registers_agree(&attested.quote, pcrs, against.identity));
    let registers = registers.transpose().map_err(|e| errors.push(e)).ok().flatten();
    match (freshness, registers) {
        (Some(freshness), Some(registers)) if errors.is_empty() => Ok(SystemdReport {
            digest: report.digest,
            freshness,
            identity: registers.contains(&IDENTITY_PCR).then_some(against.identity),
            registers,
            nvpcrs: held(&attested.nvpcrs),
            facts: facts(&report),
        }),
        _ => Err(errors),
    }
}

/// The one signature by the AK. Others, by keys that nobody enrolled, are passed over.
fn by_ak<'a>(report: &'a Report, ak: &PublicKey) -> Result<&'a TpmSignature, ReportError> {
    let own: Vec<&TpmSignature> = report.signatures.iter().filter(|s| s.key.key() == ak).collect();
    match own[..] {
        [one] => Ok(one),
        _ => Err(ReportError::Key { found: own.len() }),
    }
}

fn are_signed(signature: &TpmSignature, ak: &PublicKey) -> Vec<ReportError> {
    let signed = |component: &Component| {
        let signature = Signature::parse(&component.signature).map_err(SignatureError::Wire)?;
        signature.verify(ak, &component.attest)
    };
    let numbered = signature.components.iter().zip(1..);
    let failed = numbered.filter_map(|(component, number)| Some((number, signed(component).err()?)));
    let errors = failed.map(|(component, why)| ReportError::Signature {
        component,
        why: why.to_string(),
    });
    errors.collect()
}

/// Reads a quote, then NvPCRs, then the audit; anything else is not what systemd makes.
fn attestations(components: &[Component]) -> Result<Attested<'_>, Vec<ReportError>> {
    let [first, middle @ .., last] = components else {
        return Err(vec![ReportError::Components]);
    };
    let (Kind::Pcr, Kind::SessionAudit { hash }) = (&first.kind, &last.kind) else {
        return Err(vec![ReportError::Components]);
    };
    let mut errors = Vec::new();
    let mut clocks = Vec::new();
    let failed = |component: usize| move |why: WireError| ReportError::Attestation { component, why };
    let quote = quote(&first.attest, &mut clocks).map_err(failed(1));
    let mut nvpcrs = Vec::new();
    for (component, number) in middle.iter().zip(2..) {
        let Kind::NvPcr(index) = &component.kind else {
            return Err(vec![ReportError::Components]);
        };
        match certified(&component.attest, &mut clocks).map_err(failed(number)) {
            Ok(certified) => nvpcrs.push((index, certified)),
            Err(error) => errors.push(error),
        }
    }
    let audit = session_audit(&last.attest, *hash, &mut clocks).map_err(failed(components.len()));
    match (quote, audit) {
        (Ok(quote), Ok(audit)) if errors.is_empty() => Ok(Attested {
            quote,
            nvpcrs,
            audit,
            clocks,
        }),
        (quote, audit) => {
            errors.extend(quote.err());
            errors.extend(audit.err());
            Err(errors)
        }
    }
}

fn quote<'a>(bytes: &'a [u8], clocks: &mut Vec<ClockInfo>) -> Result<Quote<'a>, WireError> {
    let Attest {
        extra_data,
        clock,
        mut rest,
    } = Attest::parse(bytes, attest::QUOTE)?;
    let selections = selections(&mut rest)?;
    let digest = rest.sized("pcrDigest")?;
    rest.end()?;
    clocks.push(clock);
    Ok(Quote {
        extra_data,
        selections,
        digest,
    })
}

/// TPML_PCR_SELECTION (Part 2, 10.9.7).
fn selections(from: &mut Reader<'_>) -> Result<Vec<(u16, Vec<u8>)>, WireError> {
    let count = from.u32("pcrSelect count")?;
    let max = limits::LOG_ALGORITHMS;
    let count = usize::try_from(count).ok().filter(|count| *count <= max);
    let count = count.ok_or(WireError::TooLong {
        what: "pcrSelect",
        found: usize::MAX,
        max,
    })?;
    let mut selections = Vec::new();
    for _ in 0..count {
        let hash = from.u16("pcrSelect hash")?;
        let len = from.u8("sizeofSelect")?;
        demand("sizeofSelect", len, 3u8)?;
        let map = from.take(usize::from(len), "pcrSelect")?;
        let selected = |pcr: &u8| map[usize::from(pcr / 8)] & (1 << (pcr % 8)) != 0;
        selections.push((hash, (0..24).filter(selected).collect()));
    }
    Ok(selections)
}

fn certified<'a>(bytes: &'a [u8], clocks: &mut Vec<ClockInfo>) -> Result<Certified<'a>, WireError> {
    let Attest {
        extra_data,
        clock,
        mut rest,
    } = Attest::parse(bytes, attest::NV)?;
    let index_name = rest.sized("indexName")?;
    let offset = rest.u16("offset")?;
    let contents = rest.sized("nvContents")?;
    rest.end()?;
    clocks.push(clock);
    Ok(Certified {
        extra_data,
        index_name,
        offset,
        contents,
    })
}

fn session_audit<'a>(bytes: &'a [u8], hash: u16, clocks: &mut Vec<ClockInfo>) -> Result<Audit<'a>, WireError> {
    let Attest {
        extra_data,
        clock,
        mut rest,
    } = Attest::parse(bytes, attest::SESSION_AUDIT)?;
    let exclusive = rest.u8("exclusiveSession")? == 1;
    let digest = rest.sized("sessionDigest")?;
    rest.end()?;
    clocks.push(clock);
    Ok(Audit {
        extra_data,
        exclusive,
        digest,
        hash,
    })
}

/// The record names the report's digest, and the TPM signed it with the algorithm's number in front.
fn is_over_the_report(signature: &TpmSignature, audit: &Audit<'_>, digest: &Fixed<32>) -> Result<(), ReportError> {
    let signed = [&Hash::Sha256.alg().to_be_bytes(), digest.as_ref()].concat();
    if signature.sha256 == digest.as_ref() && audit.extra_data == signed {
        Ok(())
    } else {
        Err(ReportError::Digest)
    }
}

/// The certified index is the one shown, whole, can only be extended, and was certified over the name that it is shown under.
fn is_the_index(index: &NvPcr, certified: &Certified<'_>) -> Result<(), ReportError> {
    let refused = |why| {
        Err(ReportError::NvPcr {
            name: printable(&index.name, 40),
            why,
        })
    };
    let Some((hash, name)) = Hash::from_alg(index.name_alg).zip(audit::name_of(index)) else {
        return refused("its Name is by a hash that does not count");
    };
    if certified.index_name != name.as_ref() {
        return refused("another index was certified than the one shown");
    }
    let over = [
        &hash.alg().to_be_bytes(),
        hash.digest(&[index.authenticated.as_bytes()]).as_ref(),
    ]
    .concat();
    if certified.extra_data != over {
        return refused("it was certified under another name or priority");
    }
    if index.attributes >> 4 & 0xf != NV_EXTEND {
        return refused("the index is not one that can only be extended");
    }
    let whole = certified.offset == 0 && certified.contents.len() == usize::from(index.data_size);
    if !whole || Digest::from_bytes(certified.contents).is_none() {
        return refused("its contents are not one whole digest");
    }
    Ok(())
}

/// Two answers to one question would let the sender choose which one is read.
fn are_distinct(nvpcrs: &[(&NvPcr, Certified<'_>)]) -> Result<(), ReportError> {
    let same = |a: &NvPcr, b: &NvPcr| a.name == b.name || a.index == b.index;
    let shown: Vec<&NvPcr> = nvpcrs.iter().map(|(nvpcr, _)| *nvpcr).collect();
    let mut numbered = shown.iter().enumerate();
    match numbered.find(|(at, nvpcr)| shown[..*at].iter().any(|other| same(nvpcr, other))) {
        None => Ok(()),
        Some((_, nvpcr)) => Err(ReportError::NvPcr {
            name: printable(&nvpcr.name, 40),
            why: "its name or index stands twice",
        }),
    }
}

fn audit_reproduces(signature: &TpmSignature, attested: &Attested<'_>) -> Result<(), ReportError> {
    // A quote over other qualifying data than none is another command than the one that is reproduced.
    let plain = attested.quote.extra_data.is_empty();
    let digest = Hash::from_alg(attested.audit.hash)
        .filter(|_| plain)
        .and_then(|hash| audit::digest(hash, signature.key.name(), &signature.components));
    if digest.as_deref() == Some(attested.audit.digest) {
        Ok(())
    } else {
        Err(ReportError::Audit)
    }
}

fn is_exclusive(audit: &Audit<'_>) -> Result<(), ReportError> {
    if audit.exclusive {
        Ok(())
    } else {
        Err(ReportError::Shared)
    }
}

fn is_of_this_round(report: &Report, nonce: Option<&[u8]>) -> Result<Freshness, ReportError> {
    match (&report.nonce, nonce) {
        (None, _) => Ok(Freshness::Clock),
        (Some(found), Some(expected)) if found != expected => Err(ReportError::Nonce),
        (Some(_), _) => Ok(Freshness::Nonce),
    }
}

/// Every attestation is of the quote's boot, and time runs forward in them.
fn is_of_this_boot(clocks: &[ClockInfo], quote: Option<&ClockInfo>) -> Result<(), ReportError> {
    let Some(reference) = quote.or(clocks.first()) else {
        return Ok(());
    };
    let differs = |what, of: fn(&ClockInfo) -> u64| {
        let differs = clocks.iter().any(|clock| of(clock) != of(reference));
        if differs {
            Err(ReportError::Boot { what })
        } else {
            Ok(())
        }
    };
    differs("resetCount", |clock| clock.reset_count.into())?;
    differs("restartCount", |clock| clock.restart_count.into())?;
    differs("firmwareVersion", |clock| clock.firmware_version)?;
    if clocks.windows(2).all(|pair| pair[0].clock <= pair[1].clock) {
        Ok(())
    } else {
        Err(ReportError::Boot { what: "clock" })
    }
}

/// Where the report names a boot, it is the one that the binding covers.
fn names_this_boot(report: &Report, boot_id: &Fixed<16>) -> Result<(), ReportError> {
    let mut named = report.facts.iter().filter(|(name, _)| name == BOOT_ID);
    if named.all(|(_, id)| Fixed::from_hex(id).as_ref() == Some(boot_id)) {
        Ok(())
    } else {
        Err(ReportError::Boot { what: "the boot id" })
    }
}

/// Begun and ended before the quote, and not long before it: without a nonce, this is what makes it one of this round.
fn is_young(clocks: &[ClockInfo], quote: Option<&ClockInfo>) -> Result<(), ReportError> {
    let (Some(first), Some(last), Some(quote)) = (clocks.first(), clocks.last(), quote) else {
        return Ok(());
    };
    let before = |clock: &ClockInfo| i128::from(quote.clock) - i128::from(clock.clock);
    let age = if before(last) < 0 { before(last) } else { before(first) };
    if (0..=i128::from(limits::SYSTEMD_REPORT_AGE)).contains(&age) {
        Ok(())
    } else {
        Err(ReportError::Age { age })
    }
}

/// The quote is over the values that the Evidence shows; gives its registers.
fn registers_agree(quote: &Quote<'_>, pcrs: &Pcrs, identity: PcrValue) -> Result<Vec<u8>, ReportError> {
    let [(hash, registers)] = &quote.selections[..] else {
        return Err(ReportError::Bank { bank: pcrs.bank });
    };
    if *hash != pcrs.bank.tpm_alg() {
        return Err(ReportError::Bank { bank: pcrs.bank });
    }
    let value = |pcr: u8| match pcr {
        IDENTITY_PCR => Some(identity),
        _ => pcrs.value(pcr),
    };
    let shown = |pcr: &u8| {
        value(*pcr)
            .map(|v| (*pcr, v))
            .ok_or(ReportError::Register { pcr: *pcr })
    };
    let values = registers.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    let selected = Pcrs::collect(pcrs.bank, values).ok_or(ReportError::Registers)?;
    // The signing scheme's hash, whatever the bank (Part 3, 18.4); its length tells which.
    let quoted = Digest::from_bytes(quote.digest).ok_or(ReportError::Registers)?;
    if registers.is_empty() || selected.digest(quoted.bank()) != quoted {
        return Err(ReportError::Registers);
    }
    Ok(registers.clone())
}

fn held(nvpcrs: &[(&NvPcr, Certified<'_>)]) -> BTreeMap<String, HeldNvPcr> {
    let held = nvpcrs.iter().filter_map(|(nvpcr, certified)| {
        let value = Digest::from_bytes(certified.contents)?;
        let name = printable(&nvpcr.name, limits::SYSTEMD_NVPCR_NAME);
        Some((
            name,
            HeldNvPcr {
                index: nvpcr.index,
                value,
            },
        ))
    });
    held.collect()
}

/// A metric that stands twice says nothing.
fn facts(report: &Report) -> BTreeMap<String, String> {
    let only = |name: &str| {
        let mut found = report.facts.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, text)), None) => Some((name.to_owned(), printable(text, limits::SYSTEMD_FACT))),
            _ => None,
        }
    };
    FACTS.into_iter().filter_map(only).collect()
}

/// The bytes of a quote's TPML_PCR_SELECTION, which the command had as a parameter.
pub(super) fn selection(attest: &[u8]) -> Option<&[u8]> {
    let mut rest = Attest::parse(attest, attest::QUOTE).ok()?.rest;
    let all = rest.left();
    selections(&mut rest).ok()?;
    all.get(..all.len() - rest.left().len())
}

/// A certification's qualifyingData.
pub(super) fn extra_data(bytes: &[u8]) -> Option<&[u8]> {
    Attest::parse(bytes, attest::NV).ok().map(|attest| attest.extra_data)
}
