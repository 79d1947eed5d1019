//! `Secret<T>` over bytes and text.
//!
//! Must never print, copy or compare in variable time. `expose()` is the one way to the content, so that `grep expose`
//! shows every use.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Secret bytes.
pub type SecretBytes = Secret<Vec<u8>>;
/// Secret text.
pub type SecretString = Secret<String>;

/// A value that is wiped on drop and never shown.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over: the caller keeps no copy. A `Vec` or `String` that has grown on the way has left copies
    /// in freed memory; build it with its final capacity, or use [`SecretBytes::build`].
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The content.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl SecretBytes {
    /// Exactly `len` bytes, filled in place by `fill`.
    #[must_use]
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new(vec![0; len]);
        fill(&mut bytes);
        Self(bytes)
    }

    /// As text, without a copy; on bad UTF-8 the bytes are wiped and nothing of them is told.
    #[must_use]
    pub fn into_text(mut self) -> Option<SecretString> {
        match String::from_utf8(std::mem::take(&mut *self.0)) {
            Ok(text) => Some(Secret::new(text)),
            Err(e) => {
                e.into_bytes().zeroize();
                None
            }
        }
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        (*self.0).as_ref().len()
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// In constant time for equal lengths; the length itself is not hidden.
impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        (*self.0).as_ref().ct_eq((*other.0).as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(value: Vec<u8>) -> Self {
        Self::new(value)
    }
}

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(
            format!("{:?}", SecretString::new("pass".to_owned())),
            "Secret(redacted)"
        );
        assert_eq!(
            format!("{:?}", Some(SecretBytes::new(b"pass".to_vec()))),
            "Some(Secret(redacted))"
        );
    }

    #[test]
    fn equality_looks_at_the_content() {
        assert_eq!(SecretBytes::new(b"a".to_vec()), SecretBytes::new(b"a".to_vec()));
        assert_ne!(SecretBytes::new(b"a".to_vec()), SecretBytes::new(b"b".to_vec()));
        assert_ne!(SecretBytes::new(b"a".to_vec()), SecretBytes::new(b"ab".to_vec()));
    }

    #[test]
    fn building_in_place_gives_exactly_the_length() {
        let secret = SecretBytes::build(4, |b| b.copy_from_slice(b"four"));
        assert_eq!(secret.expose().as_slice(), b"four");
        assert_eq!(secret.len(), 4);
    }

    #[test]
    fn text_must_be_utf8() {
        assert!(SecretBytes::new(vec![0xff]).into_text().is_none());
        assert_eq!(
            SecretBytes::new(b"ok".to_vec()).into_text().expect("utf-8").expose(),
            "ok"
        );
    }
}
