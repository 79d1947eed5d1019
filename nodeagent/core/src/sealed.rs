//! Files of secrets that are sealed to this node's TPM: a header in clear, then AES-256-GCM under a key that only the TPM gives back.
//!
//! `RMPSEAL1`, the header's length (four bytes, big endian), the header (JSON), ciphertext, tag. All before the ciphertext is associated
//! data: names, role, unit, registers, counter and moments are what they were at sealing, or nothing is opened. Each file has a key of
//! its own, used once, so the nonce is zero. Must never be read beyond [`MAX_FILE`], and must never give a part of a damaged file.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rempart_secret::SecretBytes;
use serde::{Deserialize, Serialize};

/// Longest value, bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// Most secrets in a file: those of a unit, or all that an owner keeps in one node.
pub const MAX_ENTRIES: usize = 256;
/// Longest file, bytes: it is opened whole, in secret memory.
pub const MAX_FILE: usize = 32 << 20;
/// Longest header, bytes: that many names of that length, and the TPM's object.
const MAX_HEADER: usize = 1 << 20;
/// Bytes of a key.
pub const KEY: usize = 32;
/// Bytes of a tag.
const TAG: usize = 16;
/// Name and version of the format.
const MAGIC: &[u8; 8] = b"RMPSEAL1";
/// Bytes before the header.
const HEAD: usize = MAGIC.len() + 4;

/// What is known of a file without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Whose copies these are; `None` for the owner's own values.
    pub unit: Option<String>,
    /// The secrets, in the order of their values.
    pub entries: Vec<Entry>,
    /// Bank of the registers: `sha256` or `sha384`.
    pub bank: String,
    /// The registers.
    pub pcrs: Vec<u8>,
    /// SHA-256 of their values, hexadecimal.
    pub pcr_digest: String,
    /// NV index of the counter.
    pub index: u32,
    /// Its value.
    pub counter: u64,
    /// The TPM's clock when the values were had, milliseconds.
    pub at: u64,
    /// The TPM's clock from which on it does not give the key back.
    pub deadline: Option<u64>,
    /// The sealed key: TPMT_PUBLIC and TPM2B_PRIVATE's content, hexadecimal.
    pub public: String,
    /// See above.
    pub private: String,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its reference.
    pub name: String,
    /// The role that it is for.
    pub role: String,
}

/// Why a file is not opened, or not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// Cut, longer than it may be, or of another format.
    #[error("it is damaged, or no sealed file of this release")]
    Malformed,
    /// Another key, or a changed byte.
    #[error("it was changed since it was sealed")]
    Changed,
    /// Too much for one file.
    #[error("more than {MAX_ENTRIES} secrets, {MAX_VALUE} bytes in one or {MAX_FILE} in all cannot be sealed")]
    TooMuch,
}

/// The file that holds `values` under `key`.
pub fn seal(header: &Header, values: &[SecretBytes], key: &SecretBytes) -> Result<Vec<u8>, SealedError> {
    if values.len() != header.entries.len()
        || values.len() > MAX_ENTRIES
        || values.iter().any(|value| value.len() > MAX_VALUE)
    {
        return Err(SealedError::TooMuch);
    }
    // An exact capacity: a vector that grows leaves copies behind.
    let header = serde_json::to_vec(header).map_err(|_| SealedError::TooMuch)?;
    let text: usize = values.iter().map(|value| 4 + value.len()).sum();
    let clear = HEAD + header.len();
    if header.len() > MAX_HEADER || clear + text + TAG > MAX_FILE {
        return Err(SealedError::TooMuch);
    }
    let mut file = Vec::with_capacity(clear + text + TAG);
    file.extend_from_slice(MAGIC);
    // Bounded by MAX_HEADER.
    file.extend_from_slice(&(header.len() as u32).to_be_bytes());
    file.extend_from_slice(&header);
    for value in values {
        // Bounded by MAX_VALUE.
        file.extend_from_slice(&(value.len() as u32).to_be_bytes());
        file.extend_from_slice(value.expose());
    }
    let (associated, plaintext) = file.split_at_mut(clear);
    let sealed = cipher(key).and_then(|cipher| {
        cipher
            .seal_in_place_separate_tag(once(), Aad::from(&*associated), plaintext)
            .map_err(|_| SealedError::TooMuch)
    });
    match sealed {
        Ok(tag) => {
            file.extend_from_slice(tag.as_ref());
            Ok(file)
        }
        Err(error) => {
            drop(SecretBytes::new(file));
            Err(error)
        }
    }
}

/// What `file` says of itself, which holds only if [`open`] succeeds.
pub fn header(file: &[u8]) -> Result<Header, SealedError> {
    let (associated, _) = parts(file)?;
    let header: Header = serde_json::from_slice(&associated[HEAD..]).map_err(|_| SealedError::Malformed)?;
    match header.entries.len() {
        ..=MAX_ENTRIES => Ok(header),
        _ => Err(SealedError::Malformed),
    }
}

/// The values of `file`, all of them, in the order of its header's entries.
pub fn open(file: &[u8], key: &SecretBytes) -> Result<Vec<SecretBytes>, SealedError> {
    let count = header(file)?.entries.len();
    let (associated, ciphertext) = parts(file)?;
    let cipher = cipher(key)?;
    let mut opened = None;
    let plaintext = SecretBytes::build(ciphertext.len(), |bytes| {
        bytes.copy_from_slice(ciphertext);
        opened = cipher
            .open_in_place(once(), Aad::from(associated), bytes)
            .ok()
            .map(|text| text.len());
    });
    let text = opened
        .and_then(|len| plaintext.expose().get(..len))
        .ok_or(SealedError::Changed)?;
    split(text, count).ok_or(SealedError::Malformed)
}

fn parts(file: &[u8]) -> Result<(&[u8], &[u8]), SealedError> {
    let whole = || {
        let rest = file.strip_prefix(MAGIC).filter(|_| file.len() <= MAX_FILE)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        (length <= MAX_HEADER && rest.len() >= length.checked_add(TAG)?).then(|| file.split_at(HEAD + length))
    };
    whole().ok_or(SealedError::Malformed)
}

fn split(mut text: &[u8], count: usize) -> Option<Vec<SecretBytes>> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, rest) = text.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        values.push(SecretBytes::build(value.len(), |out| out.copy_from_slice(value)));
        text = rest;
    }
    text.is_empty().then_some(values)
}

fn cipher(key: &SecretBytes) -> Result<LessSafeKey, SealedError> {
    UnboundKey::new(&AES_256_GCM, key.expose())
        .map(LessSafeKey::new)
        .map_err(|_| SealedError::Changed)
}

/// The key is used once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; KEY])
    }

    fn values() -> Vec<SecretBytes> {
        [&b"one"[..], b"", b"three"]
            .map(|value| SecretBytes::new(value.to_vec()))
            .into()
    }

    fn of_three() -> Header {
        let entry = |name: &str| Entry {
            name: name.into(),
            role: "web".into(),
        };
        Header {
            unit: Some("web.service".into()),
            entries: vec![entry("kv/a#b"), entry("kv/a#c"), entry("kv/a#d")],
            bank: "sha256".into(),
            pcrs: vec![4, 7],
            pcr_digest: "00".into(),
            index: 0x0180_5241,
            counter: 7,
            at: 1,
            deadline: Some(2),
            public: "00".into(),
            private: "00".into(),
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_key_and_not_to_be_read_without() {
        let file = seal(&of_three(), &values(), &key(1)).expect("sealed");
        assert_eq!(header(&file), Ok(of_three()));
        let opened = open(&file, &key(1)).expect("opened");
        assert!(opened.iter().zip(values()).all(|(one, other)| *one == other) && opened.len() == 3);
        assert_eq!(open(&file, &key(2)).err(), Some(SealedError::Changed));
        assert!(!file.windows(5).any(|window| window == b"three"));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let file = seal(&of_three(), &values(), &key(1)).expect("sealed");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &key(1)).is_err(), "byte {at}");
            assert!(open(&file[..at], &key(1)).is_err(), "cut at {at}");
        }
        let mut longer = file;
        longer.push(0);
        assert!(open(&longer, &key(1)).is_err());
    }

    #[test]
    fn more_than_a_file_may_hold_is_refused() {
        let mut one = of_three();
        one.entries.truncate(1);
        let of = |len: usize| [SecretBytes::new(vec![0; len])];
        let largest = seal(&one, &of(MAX_VALUE), &key(1)).expect("sealed");
        assert_eq!(open(&largest, &key(1)).expect("opened")[0].len(), MAX_VALUE);
        assert_eq!(
            seal(&one, &of(MAX_VALUE + 1), &key(1)).err(),
            Some(SealedError::TooMuch)
        );
        assert_eq!(seal(&of_three(), &of(1), &key(1)).err(), Some(SealedError::TooMuch));
        assert_eq!(header(&vec![0; MAX_FILE + 1]), Err(SealedError::Malformed));
        let endless = [&MAGIC[..], &u32::MAX.to_be_bytes(), &[0; 64]].concat();
        assert_eq!(header(&endless), Err(SealedError::Malformed));
    }
}
