//! The kernel's Integrity Measurement Architecture: its list of measured files (`binary_runtime_measurements`, little endian) up to the
//! entry at which it equals the quoted PCR 10. What stands behind was measured after the quote and is no Evidence.
//!
//! The list carries SHA-1 digests of each entry's template data whatever the banks are; kernels since 5.10 extend each bank by its own
//! digest of the same data (security/integrity/ima: templates and `ima_pcr_extend`). Both are recomputed here, and nothing else of an
//! entry is believed. Older kernels extend SHA-1 digests padded by zeros: their lists do not replay and are refused.

/// What a policy accepts of a list.
pub mod rule;
/// Signatures of files.
pub mod signature;

pub use rule::ImaRule;

use aws_lc_rs::digest;

use crate::limits;
use crate::pcr::{Bank, PcrValue, extended};

/// The register that IMA extends (`CONFIG_IMA_MEASURE_PCR_IDX`).
pub const PCR: u8 = 10;
const SHA1_LEN: usize = 20;
/// Of the template `ima`: IMA_EVENT_NAME_LEN_MAX and a terminating zero.
const OLD_NAME_LEN: usize = 256;

/// Why a list cannot be used. The node is to blame.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImaLogError {
    /// Ends in the middle.
    #[error("the IMA list ends in the middle of entry {entry} ({field})")]
    Short {
        /// Number of the entry, from 1.
        entry: usize,
        /// The field.
        field: &'static str,
    },
    /// Something over its maximum.
    #[error("entry {entry} of the IMA list: {field} is {found}, {max} are allowed")]
    TooLarge {
        /// Number of the entry, from 1.
        entry: usize,
        /// The field.
        field: &'static str,
        /// What it is.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// A template that is not known.
    #[error(
        "entry {entry} of the IMA list has the template \"{template}\"; known are ima, ima-ng, ima-sig and ima-buf"
    )]
    Template {
        /// Number of the entry, from 1.
        entry: usize,
        /// Its name.
        template: String,
    },
    /// Measured into another register.
    #[error("entry {entry} of the IMA list was measured into PCR {pcr}, not into PCR {PCR}")]
    Register {
        /// Number of the entry, from 1.
        entry: usize,
        /// The register.
        pcr: u32,
    },
    /// The list's own digest is not that of its data.
    #[error("entry {entry} of the IMA list has another template digest than its data")]
    Digest {
        /// Number of the entry, from 1.
        entry: usize,
    },
    /// Malformed in another way.
    #[error("entry {entry} of the IMA list is malformed: {field}")]
    Malformed {
        /// Number of the entry, from 1.
        entry: usize,
        /// The field.
        field: &'static str,
    },
    /// No prefix replays to the quoted register.
    #[error("no beginning of the IMA list ({entries} entries) adds up to the quoted PCR {PCR}")]
    NoPrefix {
        /// Entries that were read.
        entries: usize,
    },
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement<'a> {
    /// A file was open for writing while it was measured: what stands here is not covered by anything.
    pub violation: bool,
    /// Name of the digest's algorithm; `sha1` for the template `ima`.
    pub algorithm: &'a str,
    /// Digest of the file, or of the buffer.
    pub digest: &'a [u8],
    /// Path, or the buffer's label.
    pub name: &'a str,
    /// What else there is.
    pub content: Content<'a>,
}

/// What a template has besides digest and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing.
    File,
    /// The file's signature; empty when it has none.
    Signed(&'a [u8]),
    /// A buffer: a key that went into a keyring, a command line for kexec.
    Buffer(&'a [u8]),
}

/// The measurements that the quote covers: the shortest beginning of the list that replays to `quoted`.
pub fn measured<'a>(list: &'a [u8], bank: Bank, quoted: &PcrValue) -> Result<Vec<Measurement<'a>>, ImaLogError> {
    let mut from = Cursor { rest: list, entry: 0 };
    from.within("list size", list.len(), limits::IMA_LOG)?;
    let ones = PcrValue::from_bytes(&[0xff; 48][..bank.size()]).expect("the bank's size");
    let mut register = bank.zero();
    let mut measurements = Vec::new();
    while register != *quoted {
        if from.rest.is_empty() {
            return Err(ImaLogError::NoPrefix { entries: from.entry });
        }
        from.entry += 1;
        from.within("number of entries", from.entry, limits::IMA_ENTRIES)?;
        let (measurement, data) = entry(&mut from)?;
        let digest = if measurement.violation { ones } else { bank.hash(&data) };
        register = extended(&register, &digest);
        measurements.push(measurement);
    }
    Ok(measurements)
}

struct Cursor<'a> {
    rest: &'a [u8],
    entry: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], ImaLogError> {
        let short = ImaLogError::Short {
            entry: self.entry,
            field,
        };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, ImaLogError> {
        Ok(u32::from_le_bytes(
            self.take(4, field)?.try_into().expect("four bytes taken"),
        ))
    }

    fn sized(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], ImaLogError> {
        let len = self.u32(field)? as usize;
        self.within(field, len, max)?;
        self.take(len, field)
    }

    fn within(&self, field: &'static str, found: usize, max: usize) -> Result<(), ImaLogError> {
        if found <= max {
            return Ok(());
        }
        Err(ImaLogError::TooLarge {
            entry: self.entry,
            field,
            found,
            max,
        })
    }

    fn malformed(&self, field: &'static str) -> ImaLogError {
        ImaLogError::Malformed {
            entry: self.entry,
            field,
        }
    }
}

/// What the template digest is over, in pieces.
type Hashed<'a> = [&'a [u8]; 3];
/// Zeros that pad the name of the template `ima`.
static PADDING: [u8; OLD_NAME_LEN] = [0; OLD_NAME_LEN];

fn entry<'a>(from: &mut Cursor<'a>) -> Result<(Measurement<'a>, Hashed<'a>), ImaLogError> {
    let pcr = from.u32("pcr")?;
    if pcr != u32::from(PCR) {
        return Err(ImaLogError::Register { entry: from.entry, pcr });
    }
    let listed = from.take(SHA1_LEN, "template digest")?;
    let template = from.sized("template name", limits::IMA_TEMPLATE_NAME)?;
    let (mut measurement, hashed) = match template {
        b"ima" => old(from)?,
        b"ima-ng" => new(from, None)?,
        b"ima-sig" => new(from, Some(Content::Signed))?,
        b"ima-buf" => new(from, Some(Content::Buffer))?,
        unknown => {
            return Err(ImaLogError::Template {
                entry: from.entry,
                template: super::printable(&String::from_utf8_lossy(unknown), limits::IMA_TEMPLATE_NAME),
            });
        }
    };
    measurement.violation = listed.iter().all(|b| *b == 0);
    if !measurement.violation && listed != sha1(&hashed).as_ref() {
        return Err(ImaLogError::Digest { entry: from.entry });
    }
    Ok((measurement, hashed))
}

/// The list is SHA-1 by format; this finds changed lists early, the register decides.
fn sha1(parts: &Hashed<'_>) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

/// The template `ima`: it has no length in front, and its name is hashed in a field of 256 bytes.
fn old<'a>(from: &mut Cursor<'a>) -> Result<(Measurement<'a>, Hashed<'a>), ImaLogError> {
    let digest = from.take(SHA1_LEN, "digest")?;
    let name = from.sized("file name", OLD_NAME_LEN - 1)?;
    let measurement = Measurement {
        violation: false,
        algorithm: "sha1",
        digest,
        name: text(from, name, "file name")?,
        content: Content::File,
    };
    Ok((measurement, [digest, name, &PADDING[name.len()..]]))
}

/// The templates with fields, each with its length in front: digest, name, and perhaps one more.
fn new<'a>(
    from: &mut Cursor<'a>,
    more: Option<fn(&'a [u8]) -> Content<'a>>,
) -> Result<(Measurement<'a>, Hashed<'a>), ImaLogError> {
    let data = from.sized("template data", limits::IMA_TEMPLATE_DATA)?;
    let mut fields = Cursor {
        rest: data,
        entry: from.entry,
    };
    let digest = fields.sized("d-ng", limits::IMA_TEMPLATE_DATA)?;
    let name = fields.sized("n-ng", limits::IMA_TEMPLATE_DATA)?;
    let content = match more {
        Some(kind) => kind(fields.sized("last field", limits::IMA_TEMPLATE_DATA)?),
        None => Content::File,
    };
    if !fields.rest.is_empty() {
        return Err(from.malformed("template data are longer than their fields"));
    }
    let colon = digest
        .windows(2)
        .position(|w| w == b":\0")
        .ok_or(from.malformed("d-ng"))?;
    let name = name.strip_suffix(&[0]).ok_or(from.malformed("n-ng"))?;
    let measurement = Measurement {
        violation: false,
        algorithm: text(from, &digest[..colon], "d-ng")?,
        digest: &digest[colon + 2..],
        name: text(from, name, "n-ng")?,
        content,
    };
    Ok((measurement, [data, &[], &[]]))
}

fn text<'a>(from: &Cursor<'_>, bytes: &'a [u8], field: &'static str) -> Result<&'a str, ImaLogError> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or(from.malformed(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Entry, IMA_OLD, ORDINARY, Template, ima_old_register};

    fn entries() -> Vec<Entry> {
        let with = |template, extra: &[u8]| Entry {
            template,
            extra: extra.to_vec(),
            ..Entry::file("/usr/bin/true", b"true")
        };
        let old = Entry {
            digest: vec![9; 20],
            ..with(Template::Ima, b"")
        };
        let violation = Entry {
            violation: true,
            digest: vec![0; 32],
            ..with(Template::ImaNg, b"")
        };
        vec![
            Entry::file("/usr/bin/env", b"env"),
            old,
            with(Template::ImaSig, b"\x03signature"),
            violation,
            with(Template::ImaBuf, b"buffer"),
        ]
    }

    #[test]
    fn the_list_of_a_real_boot_replays_to_its_register() {
        // The kernel of the recorded boot (Linux 6.12, template ima-sig) measured its boot aggregate and nothing else.
        let pcrs = ORDINARY.pcrs();
        let registers: Vec<_> = (0..10).map(|i| pcrs.value(i).expect("register")).collect();
        let parts: Vec<&[u8]> = registers.iter().map(PcrValue::as_bytes).collect();
        let aggregate = Entry {
            template: Template::ImaSig,
            digest: Bank::Sha256.hash(&parts).as_bytes().to_vec(),
            ..Entry::file("boot_aggregate", b"")
        };
        let list = aggregate.record();
        let quoted = pcrs.value(PCR).expect("register");
        let measured = measured(&list, Bank::Sha256, &quoted).expect("replays");
        assert_eq!((measured.len(), measured[0].name), (1, "boot_aggregate"));
    }

    #[test]
    fn every_template_replays_in_both_banks_and_what_stands_behind_the_quote_is_left_out() {
        for bank in [Bank::Sha256, Bank::Sha384] {
            let entries = entries();
            let (list, _) = Entry::list(bank, &entries);
            for len in 0..=entries.len() {
                let (_, register) = Entry::list(bank, &entries[..len]);
                let measured = measured(&list, bank, &register).expect("a prefix replays");
                let names: Vec<_> = measured.iter().map(|m| m.name).collect();
                assert_eq!(
                    names,
                    entries[..len].iter().map(|e| e.name.as_str()).collect::<Vec<_>>()
                );
                assert!(measured.iter().zip(&entries).all(|(m, e)| m.violation == e.violation));
            }
        }
    }

    /// Recorded with `ima_template=ima ima_policy=tcb` (Linux 6.12): the data that are hashed are not those that stand in the list.
    #[test]
    fn a_recorded_list_of_the_oldest_template_replays_in_both_banks() {
        for bank in [Bank::Sha256, Bank::Sha384] {
            let quoted = ima_old_register(bank);
            let measured = measured(IMA_OLD, bank, &quoted).expect("replays");
            assert_eq!(measured[0].name, "boot_aggregate", "{bank}");
            assert!(measured.iter().any(|m| m.name == "/usr/bin/bash"), "{bank}");
            assert!(
                measured
                    .iter()
                    .all(|m| m.algorithm == "sha1" && m.digest.len() == SHA1_LEN)
            );
            assert!(measured.len() > 30, "{bank}: {}", measured.len());
            // The list went on while the registers were read; what it had then is what counts.
            let cut = &IMA_OLD[..IMA_OLD.len() / 2];
            assert!(matches!(
                super::measured(cut, bank, &quoted),
                Err(ImaLogError::Short { .. })
            ));
            let mut changed = IMA_OLD.to_vec();
            let at = changed
                .windows(13)
                .position(|w| w == b"/usr/bin/bash")
                .expect("an entry");
            changed[at + 9] = b'd';
            assert!(super::measured(&changed, bank, &quoted).is_err(), "another name");
        }
    }

    #[test]
    fn a_list_that_is_too_short_for_the_quote_is_refused() {
        let (_, register) = Entry::list(Bank::Sha256, &entries());
        let (short, _) = Entry::list(Bank::Sha256, &entries()[..4]);
        assert_eq!(
            measured(&short, Bank::Sha256, &register),
            Err(ImaLogError::NoPrefix { entries: 4 })
        );
    }

    #[test]
    fn each_changed_byte_is_refused() {
        let (list, register) = Entry::list(Bank::Sha256, &entries());
        for at in 0..list.len() {
            let mut changed = list.clone();
            changed[at] ^= 1;
            // A violation's fields are covered by nothing: they may change, and they are never believed.
            let believed = measured(&changed, Bank::Sha256, &register).map(|list| {
                let lasting = |m: &Measurement<'_>| !m.violation;
                list.iter()
                    .filter(|m| lasting(m))
                    .map(|m| m.name.to_owned())
                    .collect::<Vec<_>>()
            });
            if let Ok(names) = believed {
                assert_eq!(
                    names,
                    ["/usr/bin/env", "/usr/bin/true", "/usr/bin/true", "/usr/bin/true"],
                    "byte {at}"
                );
            }
        }
    }

    #[test]
    fn unknown_templates_other_registers_and_over_long_fields_are_refused_by_name() {
        let record = Entry::file("/x", b"").record();
        let change = |at: usize, bytes: &[u8]| {
            let mut changed = record.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            measured(&changed, Bank::Sha256, &Bank::Sha256.hash(&[])).expect_err("refused")
        };
        assert!(matches!(change(28, b"imb-ng"), ImaLogError::Template { entry: 1, template } if template == "imb-ng"));
        assert!(matches!(change(0, &[11]), ImaLogError::Register { entry: 1, pcr: 11 }));
        let long = u32::MAX.to_le_bytes();
        assert!(matches!(
            change(24, &long),
            ImaLogError::TooLarge {
                field: "template name",
                ..
            }
        ));
        assert!(matches!(
            change(34, &long),
            ImaLogError::TooLarge {
                field: "template data",
                ..
            }
        ));
        assert!(matches!(change(38, &long), ImaLogError::TooLarge { field: "d-ng", .. }));
        assert!(matches!(change(4, &[7]), ImaLogError::Digest { entry: 1 }));
        assert!(matches!(
            change(38, &[1, 0]),
            ImaLogError::Malformed { .. } | ImaLogError::TooLarge { .. }
        ));
    }
}
