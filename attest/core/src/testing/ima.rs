//! An IMA list as the kernel writes it, for tests.

use aws_lc_rs::digest;

use crate::pcr::{Bank, PcrValue, extended};

/// Templates that a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// SHA-1 of the file and its name.
    Ima,
    /// Digest with its algorithm, and the name.
    ImaNg,
    /// The same with a signature.
    ImaSig,
    /// Digest, name and a buffer: keys, command lines.
    ImaBuf,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its template.
    pub template: Template,
    /// Name of the digest's algorithm.
    pub algorithm: &'static str,
    /// Digest of the file or buffer.
    pub digest: Vec<u8>,
    /// Path or name.
    pub name: String,
    /// Signature or buffer.
    pub extra: Vec<u8>,
    /// A file was open for writing: nothing was hashed, zeros stand for it and ones are extended.
    pub violation: bool,
}

impl Entry {
    /// A file measured by SHA-256.
    pub fn file(name: &str, content: &[u8]) -> Self {
        Self {
            template: Template::ImaNg,
            algorithm: "sha256",
            digest: crate::bytes::sha256(content).0.to_vec(),
            name: name.into(),
            extra: vec![],
            violation: false,
        }
    }

    fn template_name(&self) -> &'static str {
        match self.template {
            Template::Ima => "ima",
            Template::ImaNg => "ima-ng",
            Template::ImaSig => "ima-sig",
            Template::ImaBuf => "ima-buf",
        }
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&u32::try_from(bytes.len()).expect("short").to_le_bytes());
            out.extend_from_slice(bytes);
        };
        field(&[self.algorithm.as_bytes(), b":\0", &self.digest].concat());
        field(&[self.name.as_bytes(), b"\0"].concat());
        if matches!(self.template, Template::ImaSig | Template::ImaBuf) {
            field(&self.extra);
        }
        out
    }

    /// What the template digest is over.
    fn hashed(&self) -> Vec<u8> {
        if self.template != Template::Ima {
            return self.fields();
        }
        let mut name = self.name.clone().into_bytes();
        name.resize(256, 0);
        [self.digest.as_slice(), &name].concat()
    }

    /// The record in `binary_runtime_measurements`.
    pub fn record(&self) -> Vec<u8> {
        let word = |n: usize| u32::try_from(n).expect("short").to_le_bytes();
        let mut out = 10u32.to_le_bytes().to_vec();
        if self.violation {
            out.extend_from_slice(&[0; 20]);
        } else {
            out.extend_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.hashed()).as_ref());
        }
        out.extend_from_slice(&word(self.template_name().len()));
        out.extend_from_slice(self.template_name().as_bytes());
        if self.template == Template::Ima {
            out.extend_from_slice(&self.digest);
            out.extend_from_slice(&word(self.name.len()));
            out.extend_from_slice(self.name.as_bytes());
        } else {
            let fields = self.fields();
            out.extend_from_slice(&word(fields.len()));
            out.extend_from_slice(&fields);
        }
        out
    }

    /// `register` after the kernel extended it by this measurement.
    pub fn extend(&self, bank: Bank, register: &PcrValue) -> PcrValue {
        if self.violation {
            extended(
                register,
                &PcrValue::from_bytes(&vec![0xff; bank.size()]).expect("the bank's size"),
            )
        } else {
            extended(register, &bank.hash(&[&self.hashed()]))
        }
    }

    /// A whole list, and PCR 10 after it.
    pub fn list(bank: Bank, entries: &[Self]) -> (Vec<u8>, PcrValue) {
        let register = entries
            .iter()
            .fold(bank.zero(), |register, entry| entry.extend(bank, &register));
        (entries.iter().flat_map(Self::record).collect(), register)
    }
}
