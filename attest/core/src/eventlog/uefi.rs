//! The firmware's log, crypto-agile form (TCG PFP 1.06, 10.2 and 10.4.5.1), as /sys/kernel/security/tpm0/binary_bios_measurements
//! gives it. A log in the SHA-1 form is refused. Every length is checked against the buffer and a named maximum first.

use std::collections::BTreeMap;

use super::{Event, printable};
use crate::limits;
use crate::pcr::{Bank, PcrValue};

const EV_NO_ACTION: u32 = 3;
const EV_EVENT_TAG: u32 = 6;
const TEXT_LEN: usize = 120;

/// Why a firmware log cannot be used. The node's firmware or the node is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UefiLogError {
    /// The log is empty or missing.
    #[error("the firmware event log is empty: does the machine boot by UEFI with a TPM 2.0?")]
    Empty,
    /// The log has the SHA-1 form.
    #[error(
        "the firmware event log has the SHA-1 form; only the crypto-agile form with SHA-256 or SHA-384 counts: switch such a bank on"
    )]
    Legacy,
    /// The quoted bank is not in it.
    #[error("the firmware event log carries no {0} digests: switch the {0} bank on")]
    NoBank(Bank),
    /// Ends in the middle.
    #[error("the firmware event log ends in the middle of event {event} ({field})")]
    Short {
        /// Number of the event, from 0.
        event: usize,
        /// The field.
        field: &'static str,
    },
    /// Something over its maximum.
    #[error("event {event} of the firmware log: {field} is {found}, {max} are allowed")]
    TooLarge {
        /// Number of the event, from 0.
        event: usize,
        /// The field.
        field: &'static str,
        /// What it is.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// Malformed in another way.
    #[error("event {event} of the firmware log is malformed: {field}")]
    Malformed {
        /// Number of the event, from 0.
        event: usize,
        /// The field.
        field: &'static str,
    },
}

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Locality of TPM2_Startup, or 4 after an H-CRTM sequence: PCR 0 starts from it (PFP 10.4.5.3).
    pub locality: u8,
    /// The measurements that extend a register, in order.
    pub events: Vec<Event>,
}

/// Reads a log into the measurements that extend a register of `bank`, in order.
pub fn parse(bytes: &[u8], bank: Bank) -> Result<Vec<Event>, UefiLogError> {
    read(bytes, bank).map(|log| log.events)
}

/// Reads a log for `bank`.
pub fn read(bytes: &[u8], bank: Bank) -> Result<Log, UefiLogError> {
    if bytes.is_empty() {
        return Err(UefiLogError::Empty);
    }
    within(0, "log size", bytes.len(), limits::UEFI_LOG)?;
    let mut from = Cursor { rest: bytes, event: 0 };
    let sizes = header(&mut from, bank)?;
    let mut log = Log::default();
    let mut startup = None;
    while !from.rest.is_empty() {
        from.event += 1;
        within(from.event, "number of events", from.event, limits::EVENTS)?;
        match record(&mut from, &sizes, bank)? {
            Record::Measured(event) => log.events.push(event),
            Record::Locality(locality) => {
                // Said once and before PCR 0 has a value, else it does not tell where PCR 0 started.
                if startup.replace(locality).is_some() || log.events.iter().any(|e| e.pcr == 0) {
                    return Err(UefiLogError::Malformed {
                        event: from.event,
                        field: "StartupLocality too late",
                    });
                }
            }
            Record::Nothing => {}
        }
    }
    log.locality = startup.unwrap_or(0);
    Ok(log)
}

struct Cursor<'a> {
    rest: &'a [u8],
    event: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], UefiLogError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(UefiLogError::Short {
            event: self.event,
            field,
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, UefiLogError> {
        Ok(u16::from_le_bytes(
            self.take(2, field)?.try_into().expect("two bytes taken"),
        ))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, UefiLogError> {
        Ok(u32::from_le_bytes(
            self.take(4, field)?.try_into().expect("four bytes taken"),
        ))
    }
}

fn within(event: usize, field: &'static str, found: usize, max: usize) -> Result<(), UefiLogError> {
    if found > max {
        Err(UefiLogError::TooLarge {
            event,
            field,
            found,
            max,
        })
    } else {
        Ok(())
    }
}

/// The first event: TCG_PCR_EVENT around a TCG_EfiSpecIDEvent. Gives the digest sizes by algorithm.
fn header(from: &mut Cursor<'_>, bank: Bank) -> Result<BTreeMap<u16, usize>, UefiLogError> {
    from.u32("pcrIndex")?;
    let kind = from.u32("eventType")?;
    from.take(20, "digest")?;
    let size = from.u32("eventSize")? as usize;
    within(0, "eventSize", size, limits::EVENT_DATA)?;
    let mut spec = Cursor {
        rest: from.take(size, "event")?,
        event: 0,
    };
    if kind != EV_NO_ACTION || spec.take(16, "signature").map_err(|_| UefiLogError::Legacy)? != b"Spec ID Event03\0" {
        return Err(UefiLogError::Legacy);
    }
    spec.take(4, "platformClass")?;
    // specVersionMinor, specVersionMajor, specErrata, uintnSize: family 2.0 in every PFP that has this event.
    if spec.take(4, "version")?[1] != 2 {
        return Err(UefiLogError::Malformed {
            event: 0,
            field: "specVersionMajor",
        });
    }
    let count = spec.u32("numberOfAlgorithms")? as usize;
    within(0, "numberOfAlgorithms", count, limits::LOG_ALGORITHMS)?;
    let mut sizes = BTreeMap::new();
    for _ in 0..count {
        let algorithm = spec.u16("algorithmId")?;
        if sizes.insert(algorithm, usize::from(spec.u16("digestSize")?)).is_some() {
            return Err(UefiLogError::Malformed {
                event: 0,
                field: "algorithmId twice",
            });
        }
    }
    let vendor = usize::from(spec.take(1, "vendorInfoSize")?[0]);
    spec.take(vendor, "vendorInfo")?;
    match sizes.get(&bank.tpm_alg()) {
        Some(size) if *size == bank.size() => Ok(sizes),
        Some(_) => Err(UefiLogError::Malformed {
            event: 0,
            field: "digestSize",
        }),
        None => Err(UefiLogError::NoBank(bank)),
    }
}

enum Record {
    Measured(Event),
    /// TCG_EfiStartupLocalityEvent.
    Locality(u8),
    /// Another EV_NO_ACTION, which extends nothing.
    Nothing,
}

/// One TCG_PCR_EVENT2.
fn record(from: &mut Cursor<'_>, sizes: &BTreeMap<u16, usize>, bank: Bank) -> Result<Record, UefiLogError> {
    let number = from.event;
    let pcr = from.u32("pcrIndex")?;
    let kind = from.u32("eventType")?;
    let count = from.u32("digests count")? as usize;
    within(number, "digests count", count, limits::LOG_ALGORITHMS)?;
    let mut digest = None;
    for _ in 0..count {
        let algorithm = from.u16("hashAlg")?;
        let size = *sizes.get(&algorithm).ok_or(UefiLogError::Malformed {
            event: number,
            field: "hashAlg not declared",
        })?;
        let bytes = from.take(size, "digest")?;
        if algorithm == bank.tpm_alg()
            && digest
                .replace(PcrValue::from_bytes(bytes).expect("the bank's size was demanded"))
                .is_some()
        {
            return Err(UefiLogError::Malformed {
                event: number,
                field: "two digests of one bank",
            });
        }
    }
    let size = from.u32("eventSize")? as usize;
    within(number, "eventSize", size, limits::EVENT_DATA)?;
    let data = from.take(size, "event")?;
    if kind == EV_NO_ACTION {
        return Ok(match data.strip_prefix(b"StartupLocality\0") {
            Some([locality @ (0 | 3 | 4)]) => Record::Locality(*locality),
            Some(_) => {
                return Err(UefiLogError::Malformed {
                    event: number,
                    field: "StartupLocality",
                });
            }
            None => Record::Nothing,
        });
    }
    let digest = digest.ok_or(UefiLogError::Malformed {
        event: number,
        field: "no digest of the bank",
    })?;
    // The PC Client profile has 24 registers; a larger number cannot have been extended.
    let pcr = u8::try_from(pcr)
        .ok()
        .filter(|p| *p < 24)
        .ok_or(UefiLogError::Malformed {
            event: number,
            field: "pcrIndex",
        })?;
    Ok(Record::Measured(Event {
        pcr,
        digest,
        text: describe(kind, data),
        command_line: command_line(kind, data),
    }))
}

/// Event types of PFP table 27, by the name operators find in documentation.
fn kind_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x0000_0001 => "EV_POST_CODE",
        0x0000_0004 => "EV_SEPARATOR",
        0x0000_0005 => "EV_ACTION",
        EV_EVENT_TAG => "EV_EVENT_TAG",
        0x0000_0007 => "EV_S_CRTM_CONTENTS",
        0x0000_0008 => "EV_S_CRTM_VERSION",
        0x0000_0009 => "EV_CPU_MICROCODE",
        0x0000_000a => "EV_PLATFORM_CONFIG_FLAGS",
        0x0000_000d => "EV_IPL",
        0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
        0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
        0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
        0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
        0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
        0x8000_0006 => "EV_EFI_GPT_EVENT",
        0x8000_0007 => "EV_EFI_ACTION",
        0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
        0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
        0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
        0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
        0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
        _ => return None,
    })
}

fn describe(kind: u32, data: &[u8]) -> String {
    let name = kind_name(kind).map_or_else(|| format!("event type {kind:#x}"), str::to_owned);
    let content = match kind {
        0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => variable_name(data),
        0x0000_000d => Some(text_of(data)),
        0x8000_0007 => Some(String::from_utf8_lossy(data).into_owned()),
        EV_EVENT_TAG => tagged(data).map(|(_, content)| text_of(content)),
        _ => None,
    };
    match content.map(|c| printable(&c, TEXT_LEN)).filter(|c| !c.is_empty()) {
        Some(content) => format!("{name} \"{content}\""),
        None => name,
    }
}

/// UTF-16 when every other byte is zero (systemd-stub writes both), else taken for UTF-8.
fn text_of(data: &[u8]) -> String {
    if data.len() >= 4 && data.len().is_multiple_of(2) && data[1] == 0 && data[3] == 0 {
        utf16(data)
    } else {
        String::from_utf8_lossy(data).into_owned()
    }
}

fn utf16(data: &[u8]) -> String {
    let units = data
        .chunks_exact(2)
        .map(|c| u16::from_le_bytes([c[0], c[1]]))
        .take_while(|u| *u != 0);
    char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// UEFI_VARIABLE_DATA (PFP 10.2.6): vendor GUID, two lengths, name.
fn variable_name(data: &[u8]) -> Option<String> {
    let length = usize::try_from(u64::from_le_bytes(data.get(16..24)?.try_into().ok()?)).ok()?;
    let name = data.get(32..)?.get(..length.checked_mul(2)?)?;
    Some(utf16(name))
}

/// TCG_PCClientTaggedEvent (PFP 10.4.2.1).
fn tagged(data: &[u8]) -> Option<(u32, &[u8])> {
    let id = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    let size = u32::from_le_bytes(data.get(4..8)?.try_into().ok()?) as usize;
    Some((id, data.get(8..)?.get(..size)?))
}

/// systemd-stub logs what it appends to the command line with its text (EV_IPL in PCR 12, UTF-16). Linux' own event carries only a
/// name, not the command line: see [`is_load_options`].
fn command_line(kind: u32, data: &[u8]) -> Option<String> {
    (kind == 0x0000_000d && data.len() >= 4 && data[1] == 0).then(|| printable(&utf16(data), limits::EVENT_DATA))
}

/// Whether an event claims to be Linux' measurement of its load options.
pub fn is_load_options(event: &Event) -> bool {
    event.pcr == 9 && event.text.contains("LOADED_IMAGE::LoadOptions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::{replay, userspace};
    use crate::pcr::{JUDGED, PcrValue};

    const LOG: &[u8] = include_bytes!("../../../../tests/fixtures/boot/uefi.log");
    const USERSPACE: &[u8] = include_bytes!("../../../../tests/fixtures/boot/userspace.log");
    const PCRS: &str = include_str!("../../../../tests/fixtures/boot/pcrs");

    fn recorded(pcr: u8) -> PcrValue {
        let line = PCRS.lines().find_map(|l| l.strip_prefix(&format!("{pcr} ")));
        PcrValue::from_hex(line.expect("register")).expect("hex")
    }

    #[test]
    fn a_recorded_boot_replays_to_the_registers_of_its_tpm() {
        let mut events = parse(LOG, Bank::Sha256).expect("reads");
        events.extend(userspace::parse(USERSPACE, Bank::Sha256).expect("reads"));
        let replayed = replay::replay(Bank::Sha256, &events);
        for pcr in JUDGED.into_iter().chain([0, 1, 2, 3, 5, 6]) {
            assert_eq!(replayed.value(pcr), Some(recorded(pcr)), "PCR {pcr}");
        }
    }

    #[test]
    fn events_are_explained_in_words() {
        let events = parse(LOG, Bank::Sha256).expect("reads");
        let text = |pcr: u8| {
            events
                .iter()
                .filter(|e| e.pcr == pcr)
                .map(|e| e.text.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(text(7)[0], "EV_EFI_VARIABLE_DRIVER_CONFIG \"SecureBoot\"");
        assert_eq!(text(4)[0], "EV_EFI_ACTION \"Calling EFI Application from Boot Option\"");
        assert_eq!(text(11)[0], "EV_IPL \".linux\"");
        assert_eq!(events.iter().filter(|e| is_load_options(e)).count(), 1, "{:?}", text(9));
    }

    #[test]
    fn a_log_in_the_sha1_form_is_refused_by_name() {
        let mut legacy = LOG.to_vec();
        legacy[32 + 13] = b'2';
        assert_eq!(parse(&legacy, Bank::Sha256), Err(UefiLogError::Legacy));
        let mut measured = LOG.to_vec();
        measured[4] = 1;
        assert_eq!(parse(&measured, Bank::Sha256), Err(UefiLogError::Legacy));
        assert_eq!(parse(b"", Bank::Sha256), Err(UefiLogError::Empty));
    }

    #[test]
    fn a_whole_log_that_a_firmware_wrote_in_the_sha1_form_is_refused_with_what_to_do() {
        // TCG_PCR_EVENT records alone (PC Client Implementation for BIOS 1.21, 11.3.1), one for each of the TPM 1.2's separators.
        let log = include_bytes!("../../../../tests/fixtures/legacy/bios.log");
        let separator = [4u32.to_le_bytes().as_slice(), &[0xd9, 0xbe, 0x65, 0x24]].concat();
        assert_eq!(log.windows(8).filter(|window| *window == separator).count(), 8);
        for bank in [Bank::Sha256, Bank::Sha384] {
            let refused = parse(log, bank).expect_err("SHA-1");
            assert_eq!(refused, UefiLogError::Legacy);
            assert!(refused.to_string().contains("switch such a bank on"), "{refused}");
        }
    }

    #[test]
    fn every_truncation_either_ends_between_events_or_is_refused() {
        let whole = parse(LOG, Bank::Sha256).expect("reads").len();
        let good = (1..LOG.len())
            .filter(|len| parse(&LOG[..*len], Bank::Sha256).is_ok())
            .count();
        // After the header and after each event but the last.
        assert_eq!(good, whole);
    }

    #[test]
    fn lengths_beyond_the_buffer_or_the_maxima_are_refused_without_allocating() {
        let mut log = LOG.to_vec();
        log[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            parse(&log, Bank::Sha256),
            Err(UefiLogError::TooLarge { field: "eventSize", .. })
        ));
        let header = 32 + u32::from_le_bytes(LOG[28..32].try_into().expect("four")) as usize;
        let mut log = LOG.to_vec();
        log[header + 8..header + 12].copy_from_slice(&99u32.to_le_bytes());
        assert!(matches!(
            parse(&log, Bank::Sha256),
            Err(UefiLogError::TooLarge {
                field: "digests count",
                event: 1,
                ..
            })
        ));
        let mut log = LOG.to_vec();
        log[header..header + 4].copy_from_slice(&24u32.to_le_bytes());
        assert_eq!(
            parse(&log, Bank::Sha256),
            Err(UefiLogError::Malformed {
                event: 1,
                field: "pcrIndex"
            })
        );
        let mut log = LOG.to_vec();
        log[header + 12..header + 14].copy_from_slice(&0x000cu16.to_le_bytes());
        assert!(
            matches!(parse(&log, Bank::Sha256), Err(UefiLogError::Malformed { .. })),
            "an algorithm that the header did not declare"
        );
    }

    #[test]
    fn a_log_without_the_bank_is_refused() {
        assert_eq!(parse(LOG, Bank::Sha384), Err(UefiLogError::NoBank(Bank::Sha384)));
        let mut log = LOG.to_vec();
        let algorithm = 32 + 16 + 8 + 4;
        log[algorithm] = 4;
        assert_eq!(parse(&log, Bank::Sha256), Err(UefiLogError::NoBank(Bank::Sha256)));
    }
}
