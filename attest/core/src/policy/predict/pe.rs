//! PE/COFF (Microsoft PE Format) as far as measurement needs it: sections as they lie in memory, and the Authenticode hash
//! (Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash") as EDK II computes it.

use aws_lc_rs::digest;

use crate::pcr::{Bank, PcrValue};

const PE32_PLUS: u16 = 0x20b;
/// Sections of one image, count: a UKI has about a dozen, 96 is the loader's classic maximum.
const MAX_SECTIONS: usize = 96;

/// Sections are aligned to pages in memory, bytes.
const PAGE: usize = 4096;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeError {
    /// Not a PE32+ image.
    #[error("it is not a 64-bit PE image: {0}")]
    Malformed(&'static str),
}

/// One section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    virtual_size: usize,
    raw_offset: usize,
    raw: &'a [u8],
}

impl Section<'_> {
    /// Whether it is at most a page larger in memory than in the file. Nothing else is read, so that a few bytes of headers cannot
    /// ask for a gigabyte of zeros.
    pub(super) fn is_filled(&self) -> bool {
        self.virtual_size <= self.raw.len().saturating_add(PAGE)
    }

    /// The content as it lies in memory: cut to or filled up with zeros to the virtual size.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = self.raw[..self.raw.len().min(self.virtual_size)].to_vec();
        content.resize(self.virtual_size, 0);
        content
    }
}

pub(super) struct Pe<'a> {
    file: &'a [u8],
    headers_len: usize,
    checksum: usize,
    security_entry: usize,
    security_len: usize,
    pub(super) sections: Vec<Section<'a>>,
}

impl<'a> Pe<'a> {
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, PeError> {
        if file.get(..2) != Some(b"MZ") {
            return Err(PeError::Malformed("no MZ header"));
        }
        let pe = u32_at(file, 0x3c)? as usize;
        if slice(file, pe, 4)? != b"PE\0\0" {
            return Err(PeError::Malformed("no PE header"));
        }
        let count = usize::from(u16_at(file, pe + 6)?);
        let optional_len = usize::from(u16_at(file, pe + 20)?);
        let optional = pe + 24;
        if u16_at(file, optional)? != PE32_PLUS {
            return Err(PeError::Malformed("not PE32+"));
        }
        if count > MAX_SECTIONS {
            return Err(PeError::Malformed("too many sections"));
        }
        if u32_at(file, optional + 108)? < 5 || optional_len < 152 {
            return Err(PeError::Malformed("no security directory entry"));
        }
        let table = optional + optional_len;
        let sections: Result<Vec<_>, _> = (0..count).map(|at| section(file, table + at * 40)).collect();
        Ok(Self {
            file,
            headers_len: u32_at(file, optional + 60)? as usize,
            checksum: optional + 64,
            security_entry: optional + 144,
            security_len: u32_at(file, optional + 148)? as usize,
            sections: sections?,
        })
    }

    /// Authenticode hash of the bank.
    pub(super) fn authenticode(&self, bank: Bank) -> Result<PcrValue, PeError> {
        let mut hash = digest::Context::new(match bank {
            Bank::Sha256 => &digest::SHA256,
            Bank::Sha384 => &digest::SHA384,
        });
        let end = |from: usize, to: usize| self.file.get(from..to).ok_or(PeError::Malformed("headers end early"));
        hash.update(end(0, self.checksum)?);
        hash.update(end(self.checksum + 4, self.security_entry)?);
        hash.update(end(self.security_entry + 8, self.headers_len)?);
        let mut sections: Vec<_> = self.sections.iter().filter(|s| !s.raw.is_empty()).collect();
        sections.sort_by_key(|s| s.raw_offset);
        let mut hashed = self.headers_len;
        for section in sections {
            hash.update(section.raw);
            hashed += section.raw.len();
        }
        // What follows the last section is hashed too, except the certificate table at the very end.
        let trailing = self
            .file
            .len()
            .checked_sub(self.security_len)
            .and_then(|end| self.file.get(hashed..end));
        hash.update(trailing.ok_or(PeError::Malformed("sections overlap"))?);
        Ok(PcrValue::from_bytes(hash.finish().as_ref()).expect("a hash has its own length"))
    }
}

fn section(file: &[u8], at: usize) -> Result<Section<'_>, PeError> {
    let name = slice(file, at, 8)?;
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| PeError::Malformed("a section's name is not text"))?;
    let virtual_size = u32_at(file, at + 8)? as usize;
    let raw_len = u32_at(file, at + 16)? as usize;
    let raw_offset = u32_at(file, at + 20)? as usize;
    if virtual_size > crate::limits::IMAGE {
        return Err(PeError::Malformed("a section is too large"));
    }
    let raw = if raw_len == 0 {
        &[]
    } else {
        slice(file, raw_offset, raw_len)?
    };
    Ok(Section {
        name,
        virtual_size,
        raw_offset,
        raw,
    })
}

fn slice(file: &[u8], at: usize, len: usize) -> Result<&[u8], PeError> {
    at.checked_add(len)
        .and_then(|end| file.get(at..end))
        .ok_or(PeError::Malformed("it ends early"))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16, PeError> {
    Ok(u16::from_le_bytes(slice(file, at, 2)?.try_into().expect("two bytes")))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32, PeError> {
    Ok(u32::from_le_bytes(slice(file, at, 4)?.try_into().expect("four bytes")))
}
