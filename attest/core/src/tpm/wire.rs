//! Reading big-endian TPM structures. Never allocates by a length that it has not checked against the buffer.

use crate::limits;

/// Why a TPM structure cannot be read. The node that sent it is to blame.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// Ends in the middle of `what`.
    #[error("ends in the middle of {what}")]
    Short {
        /// The field.
        what: &'static str,
    },
    /// Something is left over.
    #[error("{extra} bytes are left over")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A sized buffer over its maximum.
    #[error("{what} has {found} bytes, {max} are allowed")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// A field has a value that is not accepted.
    #[error("{what} is {found:#x}, {expected:#x} is accepted")]
    Value {
        /// The field.
        what: &'static str,
        /// What is accepted.
        expected: u64,
        /// What it is.
        found: u64,
    },
}

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(WireError::Short { what })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        Ok(self.take(N, what)?.try_into().expect("take gives exactly N bytes"))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// A TPM2B: a length of two bytes and so many bytes.
    pub(crate) fn sized(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let found = usize::from(self.u16(what)?);
        if found > limits::TPM2B {
            return Err(WireError::TooLong {
                what,
                found,
                max: limits::TPM2B,
            });
        }
        self.take(found, what)
    }

    /// What was not read yet.
    pub(crate) fn left(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing { extra: self.0.len() })
        }
    }
}

/// Demands one value of a field.
pub(crate) fn demand(what: &'static str, found: impl Into<u64>, expected: impl Into<u64>) -> Result<(), WireError> {
    let (found, expected) = (found.into(), expected.into());
    if found == expected {
        Ok(())
    } else {
        Err(WireError::Value { what, expected, found })
    }
}

/// A number of `len` bytes: a TPM may drop leading zeros.
pub(crate) fn padded(number: &[u8], len: usize, what: &'static str) -> Result<Vec<u8>, WireError> {
    let missing = len.checked_sub(number.len()).ok_or(WireError::TooLong {
        what,
        found: number.len(),
        max: len,
    })?;
    let mut out = vec![0; len];
    out[missing..].copy_from_slice(number);
    Ok(out)
}

/// Writes a TPM2B.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("callers write structures far below 64 KiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_buffer_or_the_maximum_is_refused() {
        assert_eq!(Reader::new(&[0, 5, 1]).sized("x"), Err(WireError::Short { what: "x" }));
        assert!(matches!(
            Reader::new(&[0xff, 0xff]).sized("x"),
            Err(WireError::TooLong { .. })
        ));
    }

    #[test]
    fn what_is_left_over_is_refused() {
        assert_eq!(Reader::new(&[1]).end(), Err(WireError::Trailing { extra: 1 }));
    }
}
