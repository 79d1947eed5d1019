//! systemd's log of measurements from user space: /run/log/systemd/tpm2-measure.log, a JSON text sequence (RFC 7464) of records in
//! the TCG Canonical Event Log's JSON form, as systemd 255 and later writes them.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Event, printable};
use crate::limits;
use crate::pcr::{Bank, PcrValue};

const RECORD_SEPARATOR: u8 = 0x1e;

/// Why systemd's log cannot be used. The node is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserspaceLogError {
    /// Over its maximum.
    #[error("systemd's measurement log has {found} {what}, {max} are allowed")]
    TooLarge {
        /// Bytes or records.
        what: &'static str,
        /// How many.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not what systemd writes.
    #[error("record {record} of systemd's measurement log cannot be read: {why}")]
    Malformed {
        /// Its number, from 1.
        record: usize,
        /// The parser's words.
        why: String,
    },
    /// A record of a register without a digest of the quoted bank.
    #[error("record {record} of systemd's measurement log has no {bank} digest: switch the {bank} bank on")]
    NoBank {
        /// Its number, from 1.
        record: usize,
        /// The bank.
        bank: Bank,
    },
}

// systemd adds fields over time (nv_index, boot ids): unknown ones are passed over, because only the digest counts.
#[derive(Deserialize)]
struct Record<'a> {
    pcr: Option<u8>,
    #[serde(borrow)]
    digests: Vec<RecordDigest<'a>>,
    #[serde(borrow, default)]
    content: Content<'a>,
}

#[derive(Deserialize)]
struct RecordDigest<'a> {
    #[serde(rename = "hashAlg", borrow)]
    hash_alg: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Content<'a> {
    #[serde(default, borrow)]
    string: Option<Cow<'a, str>>,
    #[serde(rename = "eventType", default, borrow)]
    event_type: Option<Cow<'a, str>>,
}

/// Reads a log into measurements of `bank`, in order. An empty log has none.
pub fn parse(bytes: &[u8], bank: Bank) -> Result<Vec<Event>, UserspaceLogError> {
    if bytes.len() > limits::USERSPACE_LOG {
        return Err(UserspaceLogError::TooLarge {
            what: "bytes",
            found: bytes.len(),
            max: limits::USERSPACE_LOG,
        });
    }
    let mut events = Vec::new();
    let records = bytes
        .split(|b| *b == RECORD_SEPARATOR)
        .filter(|r| !r.trim_ascii().is_empty());
    for (at, record) in records.enumerate() {
        let number = at + 1;
        if number > limits::EVENTS {
            return Err(UserspaceLogError::TooLarge {
                what: "records",
                found: number,
                max: limits::EVENTS,
            });
        }
        events.extend(event(number, record, bank)?);
    }
    Ok(events)
}

/// `None` for a record that is not about a register (NV indexes, systemd 259).
fn event(number: usize, record: &[u8], bank: Bank) -> Result<Option<Event>, UserspaceLogError> {
    let malformed = |why: String| UserspaceLogError::Malformed { record: number, why };
    let record: Record<'_> = serde_json::from_slice(record).map_err(|e| malformed(e.to_string()))?;
    let Some(pcr) = record.pcr else { return Ok(None) };
    if pcr >= 24 {
        return Err(malformed(format!("there is no PCR {pcr}")));
    }
    let digest = record
        .digests
        .iter()
        .find(|d| d.hash_alg == bank.name())
        .ok_or(UserspaceLogError::NoBank { record: number, bank })?;
    let digest = PcrValue::from_hex(&digest.digest)
        .filter(|d| d.bank() == bank)
        .ok_or_else(|| malformed(format!("the {bank} digest has not that bank's length in hex digits")))?;
    let kind = record.content.event_type.unwrap_or_else(|| "unknown".into());
    let text = format!(
        "systemd {} \"{}\"",
        printable(&kind, 40),
        printable(&record.content.string.unwrap_or_default(), 120)
    );
    Ok(Some(Event {
        pcr,
        digest,
        text,
        command_line: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pcr: u8, alg: &str, word: &str) -> String {
        let digest = crate::bytes::sha256(word.as_bytes());
        format!(
            "\x1e{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"{alg}\",\"digest\":\"{digest}\"}}],\"content_type\":\"systemd\",\
             \"content\":{{\"string\":\"{word}\",\"bootId\":\"b\",\"timestamp\":1,\"eventType\":\"phase\"}}}}\n"
        )
    }

    #[test]
    fn phases_are_read_in_order() {
        let log = record(11, "sha256", "enter-initrd") + &record(11, "sha256", "leave-initrd");
        let events = parse(log.as_bytes(), Bank::Sha256).expect("reads");
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].digest, Bank::Sha256.hash(&[b"leave-initrd"]));
        assert_eq!(events[1].text, "systemd phase \"leave-initrd\"");
        assert_eq!(parse(b"", Bank::Sha256), Ok(vec![]));
    }

    #[test]
    fn a_cut_record_is_refused_with_its_number() {
        let log = record(11, "sha256", "enter-initrd") + "\x1e{\"pcr\":11,";
        assert!(matches!(
            parse(log.as_bytes(), Bank::Sha256),
            Err(UserspaceLogError::Malformed { record: 2, .. })
        ));
    }

    #[test]
    fn a_record_without_the_bank_is_refused() {
        assert_eq!(
            parse(record(11, "sha1", "x").as_bytes(), Bank::Sha256),
            Err(UserspaceLogError::NoBank {
                record: 1,
                bank: Bank::Sha256
            })
        );
    }

    #[test]
    fn a_register_that_no_tpm_has_is_refused() {
        assert!(parse(record(24, "sha256", "x").as_bytes(), Bank::Sha256).is_err());
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let refused = parse(&vec![b' '; limits::USERSPACE_LOG + 1], Bank::Sha256).expect_err("too large");
        assert!(matches!(refused, UserspaceLogError::TooLarge { what: "bytes", .. }));
    }
}
