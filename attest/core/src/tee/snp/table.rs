//! The certificate table that a host hands to its guest with a report (AMD 56421, GHCB, 4.1.8.1): GUID, offset and length of each
//! certificate, ended by an entry of zeros. The host is the adversary: every entry is bounded, and no two may overlap.

use crate::limits;

/// GUID, offset, length.
const ENTRY: usize = 24;

/// What a host supplied, as it supplied it: DER or PEM, believed by nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table<'a> {
    /// The chip's key.
    pub vcek: Option<&'a [u8]>,
    /// The cloud provider's key.
    pub vlek: Option<&'a [u8]>,
    /// The intermediate of either; with a VLEK it is the ASVK.
    pub ask: Option<&'a [u8]>,
    /// The root.
    pub ark: Option<&'a [u8]>,
    /// A revocation list.
    pub crl: Option<&'a [u8]>,
}

/// Why bytes are no table. The node or its host is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// Over [`limits::TEE_CERTIFICATES`].
    #[error("the certificate table has {found} bytes, {} are allowed", limits::TEE_CERTIFICATES)]
    TooLarge {
        /// Its size, bytes.
        found: usize,
    },
    /// No entry of zeros within the bytes.
    #[error("the certificate table does not end")]
    Endless,
    /// Over [`limits::TEE_TABLE_ENTRIES`].
    #[error("the certificate table has more than {} entries", limits::TEE_TABLE_ENTRIES)]
    TooMany,
    /// An entry points outside, into the entries themselves, or is too long.
    #[error("entry {0} of the certificate table points outside")]
    Outside(usize),
    /// Two entries share bytes.
    #[error("entries of the certificate table overlap")]
    Overlap,
    /// Two entries have one GUID.
    #[error("the certificate table has two entries of one kind")]
    Twice,
}

/// GUIDs in the order of their text, as the table has them.
const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
const VLEK: [u8; 16] = *b"\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
const ASK: [u8; 16] = *b"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
const ARK: [u8; 16] = *b"\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae";
const CRL: [u8; 16] = *b"\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea";

/// Reads a table; no bytes at all are an empty one. Kinds that are not known are bounded like the others and passed over.
pub fn parse(bytes: &[u8]) -> Result<Table<'_>, TableError> {
    if bytes.len() > limits::TEE_CERTIFICATES {
        return Err(TableError::TooLarge { found: bytes.len() });
    }
    let entries = if bytes.is_empty() { vec![] } else { entries(bytes)? };
    let mut table = Table::default();
    for (at, (guid, ..)) in entries.iter().enumerate() {
        if entries[..at].iter().any(|(other, ..)| other == guid) {
            return Err(TableError::Twice);
        }
    }
    for (guid, start, end) in entries {
        let place = match guid {
            VCEK => &mut table.vcek,
            VLEK => &mut table.vlek,
            ASK => &mut table.ask,
            ARK => &mut table.ark,
            CRL => &mut table.crl,
            _ => continue,
        };
        *place = Some(&bytes[start..end]);
    }
    Ok(table)
}

type Entry = ([u8; 16], usize, usize);

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, TableError> {
    let mut found: Vec<Entry> = Vec::new();
    let (raw, _) = bytes.as_chunks::<ENTRY>();
    let end = raw.iter().position(|e| e.iter().all(|b| *b == 0));
    let end = end.ok_or(TableError::Endless)?;
    if end > limits::TEE_TABLE_ENTRIES {
        return Err(TableError::TooMany);
    }
    let data = (end + 1) * ENTRY;
    for (at, entry) in raw[..end].iter().enumerate() {
        let word = |offset: usize| u32::from_le_bytes(entry[offset..offset + 4].try_into().expect("four bytes"));
        let guid = entry[..16].try_into().expect("sixteen bytes");
        let (start, len) = (word(16) as usize, word(20) as usize);
        let stop = start.checked_add(len).ok_or(TableError::Outside(at))?;
        if start < data || stop > bytes.len() || len > limits::CERTIFICATE {
            return Err(TableError::Outside(at));
        }
        if found.iter().any(|(_, other, end)| start < *end && *other < stop) {
            return Err(TableError::Overlap);
        }
        found.push((guid, start, stop));
    }
    Ok(found)
}

/// A table as a host makes it, for tests and for a node that has its certificates from elsewhere.
pub fn build(table: &Table<'_>) -> Vec<u8> {
    let parts = [
        (VCEK, table.vcek),
        (VLEK, table.vlek),
        (ASK, table.ask),
        (ARK, table.ark),
        (CRL, table.crl),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|(guid, bytes)| Some((guid, bytes?)))
        .collect();
    let mut offset = (parts.len() + 1) * ENTRY;
    let mut out = Vec::new();
    for (guid, bytes) in &parts {
        out.extend_from_slice(guid);
        for number in [offset, bytes.len()] {
            out.extend_from_slice(&u32::try_from(number).expect("certificates are small").to_le_bytes());
        }
        offset += bytes.len();
    }
    out.extend_from_slice(&[0; ENTRY]);
    for (_, bytes) in parts {
        out.extend_from_slice(bytes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        build(&Table {
            vcek: Some(b"leaf"),
            ask: Some(b"middle"),
            ark: Some(b"root"),
            ..Table::default()
        })
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let bytes = sample();
        let table = parse(&bytes).expect("table");
        assert_eq!(
            (table.vcek, table.ask, table.ark),
            (Some(&b"leaf"[..]), Some(&b"middle"[..]), Some(&b"root"[..]))
        );
        assert_eq!((table.vlek, table.crl), (None, None));
        assert_eq!(parse(b""), Ok(Table::default()));
    }

    #[test]
    fn an_unknown_kind_is_passed_over() {
        let mut bytes = sample();
        bytes[0] ^= 1;
        let table = parse(&bytes).expect("table");
        assert_eq!((table.vcek, table.ask), (None, Some(&b"middle"[..])));
    }

    #[test]
    fn entries_that_point_outside_are_refused() {
        for (at, value) in [(16, u32::MAX), (16, 0), (16, 95), (20, u32::MAX), (20, 4096)] {
            let mut bytes = sample();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(parse(&bytes), Err(TableError::Outside(0)), "{at} {value}");
        }
    }

    #[test]
    fn overlapping_and_doubled_entries_are_refused() {
        let mut bytes = sample();
        let first = bytes[16..20].to_vec();
        bytes[24 + 16..24 + 20].copy_from_slice(&first);
        assert_eq!(parse(&bytes), Err(TableError::Overlap));
        let mut bytes = sample();
        bytes[24..40].copy_from_slice(&VCEK);
        assert_eq!(parse(&bytes), Err(TableError::Twice));
    }

    #[test]
    fn a_table_without_end_or_with_too_much_is_refused() {
        assert_eq!(parse(&[1; 20]), Err(TableError::Endless));
        assert_eq!(parse(&[1; 240]), Err(TableError::Endless));
        assert_eq!(
            parse(&vec![0; limits::TEE_CERTIFICATES + 1]),
            Err(TableError::TooLarge {
                found: limits::TEE_CERTIFICATES + 1
            })
        );
        let mut many = vec![1; (limits::TEE_TABLE_ENTRIES + 1) * ENTRY];
        many.extend_from_slice(&[0; ENTRY]);
        assert_eq!(parse(&many), Err(TableError::TooMany));
    }
}
