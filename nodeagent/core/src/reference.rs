//! `PATH#FIELD` or `PATH?KEY=VALUE&KEY=VALUE#FIELD`: the name of one secret, in a unit's `Secret=` line.
//!
//! With OpenBao the path begins with the mount of an engine, whose kind the server tells; the parameters are the engine's, such as
//! `version` (KV version 2) or `common_name` (PKI). With the Verifier's own store the whole text is the name. Must never accept what could
//! climb out of the mount (`..`, empty parts).

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest reference accepted, in bytes.
pub const MAX_REFERENCE: usize = 1024;
/// The parameter that is not the engine's: how the value is written in the vault.
const ENCODING: &str = "encoding";

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    place: Place,
    field: String,
    encoding: Encoding,
}

/// What one request to the vault asks for: all references with the same place are of one answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    path: String,
    parameters: BTreeMap<String, String>,
}

/// How a value is written where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// In base64, as text is the only thing that most vaults keep (`encoding=base64`).
    Base64,
}

/// Why a text is no reference; the unit's author misspelt it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No `#FIELD`, no `/`, or an empty part.
    #[error("unit names the secret `{0}`, which is not of the form MOUNT/PATH#FIELD or MOUNT/PATH?KEY=VALUE#FIELD")]
    UnitMalformed(String),
    /// Another encoding.
    #[error("unit names the secret `{0}`, whose encoding can only be base64")]
    UnitEncoding(String),
    /// Longer than [`MAX_REFERENCE`].
    #[error("unit names a secret in more than {MAX_REFERENCE} bytes")]
    UnitTooLong,
}

impl Reference {
    /// What is asked for.
    pub fn place(&self) -> &Place {
        &self.place
    }
    /// The field of the answer, such as `db_password`.
    pub fn field(&self) -> &str {
        &self.field
    }
    /// What it is called in a store whose names are whole references: how its value is written is no part of that.
    pub fn name(&self) -> String {
        format!("{}#{}", self.place, self.field)
    }
    /// How its value is written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl Place {
    /// Mount and path below it, such as `kv/billing`: two parts at least.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// What the engine is told.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
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
        let (path, query) = place
            .split_once('?')
            .map_or((place, None), |(path, query)| (path, Some(query)));
        let plain = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !path.contains('/') || !path.split('/').all(plain) || !plain(field) {
            return Err(malformed());
        }
        let mut parameters = BTreeMap::new();
        for pair in query.iter().flat_map(|query| query.split('&')) {
            let (key, value) = pair.split_once('=').ok_or_else(malformed)?;
            let written = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/+=,*@".contains(&byte);
            if !plain(key) || value.is_empty() || !value.bytes().all(written) {
                return Err(malformed());
            }
            if parameters.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(malformed());
            }
        }
        let encoding = match parameters.remove(ENCODING).as_deref() {
            None => Encoding::Plain,
            Some("base64") => Encoding::Base64,
            Some(_) => return Err(ReferenceError::UnitEncoding(text.to_owned())),
        };
        Ok(Self {
            place: Place {
                path: path.to_owned(),
                parameters,
            },
            field: field.to_owned(),
            encoding,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.path)?;
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            write!(out, "{}{key}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.place)?;
        if self.encoding == Encoding::Base64 {
            let mark = if self.place.parameters.is_empty() { '?' } else { '&' };
            write!(out, "{mark}{ENCODING}=base64")?;
        }
        write!(out, "#{}", self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_round_trips() {
        let parsed: Reference = "kv/team/billing#db_password".parse().expect("valid");
        assert_eq!(
            (parsed.place().path(), parsed.field()),
            ("kv/team/billing", "db_password")
        );
        for text in [
            "kv/team/billing#db_password",
            "kv/billing?version=3#key",
            "pki/issue/web?common_name=web.internal&ttl=24h#private_key",
            "kv/keys?encoding=base64#raw",
            "kv/keys?version=3&encoding=base64#raw",
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn parameters_are_the_engines_and_the_encoding_is_ours() {
        let parsed: Reference = "transit/decrypt/k?encoding=base64&ciphertext=vault:v1:ab+/=#plaintext"
            .parse()
            .expect("valid");
        assert_eq!(parsed.encoding(), Encoding::Base64);
        assert_eq!(parsed.place().parameters()["ciphertext"], "vault:v1:ab+/=");
        assert_eq!(parsed.place().parameters().len(), 1);
        assert!(matches!(
            "kv/a?encoding=hex#b".parse::<Reference>(),
            Err(ReferenceError::UnitEncoding(_))
        ));
    }

    #[test]
    fn one_answer_serves_all_fields_of_a_place_and_no_other() {
        let place = |text: &str| text.parse::<Reference>().expect(text).place().clone();
        assert_eq!(
            place("database/creds/app#username"),
            place("database/creds/app#password")
        );
        assert_ne!(place("kv/a?version=1#x"), place("kv/a#x"));
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
            "kv/a?#c",
            "kv/a?x#c",
            "kv/a?x=#c",
            "kv/a?x=1&x=2#c",
            "kv/a?x=1?y=2#c",
            "kv/a?x=a b#c",
            "kv/a?x/y=1#c",
            "kv/a?x=%0a#c",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
