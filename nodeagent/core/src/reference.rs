//! `MOUNT/PATH#FIELD`: the name of one secret, in a unit's `Secret=` line.
//!
//! With OpenBao the mount is that of a KV engine; with the Verifier's own store the whole text is the
//! name. Must never accept what could climb out of the mount (`..`, empty parts).

use std::{fmt, str::FromStr};

/// Longest reference accepted, in bytes.
pub const MAX_REFERENCE: usize = 512;

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    mount: String,
    path: String,
    field: String,
}

/// Why a text is no reference; the unit's author misspelt it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No `#FIELD`, no `/`, or an empty part.
    #[error("unit names the secret `{0}`, which is not of the form MOUNT/PATH#FIELD")]
    UnitMalformed(String),
    /// Longer than [`MAX_REFERENCE`].
    #[error("unit names a secret in more than {MAX_REFERENCE} bytes")]
    UnitTooLong,
}

impl Reference {
    /// The engine's mount, such as `kv`.
    pub fn mount(&self) -> &str {
        &self.mount
    }
    /// The path below the mount, such as `billing`.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// The field of the secret, such as `db_password`.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REFERENCE {
            return Err(ReferenceError::UnitTooLong);
        }
        let malformed = || ReferenceError::UnitMalformed(text.to_owned());
        let (place, field) = text.split_once('#').ok_or_else(malformed)?;
        let (mount, path) = place.split_once('/').ok_or_else(malformed)?;
        let plain = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !plain(mount) || !path.split('/').all(plain) || !plain(field) {
            return Err(malformed());
        }
        Ok(Self {
            mount: mount.to_owned(),
            path: path.to_owned(),
            field: field.to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}#{}", self.mount, self.path, self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_round_trips() {
        let parsed: Reference = "kv/team/billing#db_password".parse().expect("valid");
        assert_eq!(
            (parsed.mount(), parsed.path(), parsed.field()),
            ("kv", "team/billing", "db_password")
        );
        assert_eq!(parsed.to_string(), "kv/team/billing#db_password");
    }

    #[test]
    fn what_could_climb_out_of_the_mount_is_refused() {
        for text in [
            "kv/../sys#x",
            "kv//a#x",
            "kv/a",
            "a#x",
            "/a#b",
            "kv/a#",
            "kv/a b#c",
            "kv/a%2f..#c",
            "kv/a#b#c",
            "kv/a?x=1#c",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
