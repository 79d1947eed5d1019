//! `rempart wrap`, `unwrap`, `diff` and `validate`: which units opted in, and what systemd makes of them.
//!
//! What is said of a unit is the generator's own judgement (rempart-rewrite) over the same files, never a second opinion.

use std::{path::PathBuf, str::FromStr};

use rempart_rewrite::{is_prefix, unit_type};

/// `diff`.
pub mod diff;
/// What systemd has loaded.
mod loaded;
/// The section, from the command line.
pub mod section;
/// `validate`.
pub mod validate;
/// `wrap` and `unwrap`.
pub mod wrap;

/// Where an operator's drop-ins belong.
const FOLDER: &str = "/etc/systemd/system";
/// The name of ours.
const DROP_IN: &str = "50-rempart.conf";
/// Longest name of a unit (systemd's UNIT_NAME_MAX).
const MAX_NAME: usize = 255;

/// The full name of a service, or of a template of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName(String);

/// Why something is not the name of a service.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Other characters, or too many.
    #[error("a unit's name has at most {MAX_NAME} letters, digits and characters of `:-_.\\@`")]
    Characters,
    /// `x.socket`.
    #[error("only services can be wrapped")]
    Type,
    /// `x-.service`.
    #[error("this is the beginning of many names; name each service")]
    Prefix,
}

impl FromStr for ServiceName {
    type Err = NameError;

    /// `.service` may be left out, as with systemctl(1).
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = match unit_type(text) {
            Some(".service") => text.to_owned(),
            Some(_) => return Err(NameError::Type),
            None => format!("{text}.service"),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(NameError::Characters);
        }
        if is_prefix(&name) {
            return Err(NameError::Prefix);
        }
        Ok(Self(name))
    }
}

impl ServiceName {
    /// As systemd writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It stands for its instances and is never started itself.
    pub fn is_template(&self) -> bool {
        self.0.ends_with("@.service")
    }

    /// Where `rempart wrap` writes.
    fn drop_in(&self) -> PathBuf {
        PathBuf::from(format!("{FOLDER}/{}.d/{DROP_IN}", self.0))
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_with_or_without_its_type_and_nothing_else_is() {
        let name = |text: &str| text.parse::<ServiceName>();
        assert_eq!(name("web").expect("short").as_str(), "web.service");
        assert_eq!(name("web@eu.service").expect("instance").as_str(), "web@eu.service");
        assert!(name("web@").expect("template").is_template());
        assert_eq!(name("web.socket"), Err(NameError::Type));
        assert_eq!(name("web-"), Err(NameError::Prefix));
        for odd in ["", "../x", "a/b", "a b", "a\nb", ".service"] {
            assert_eq!(name(odd), Err(NameError::Characters), "{odd:?}");
        }
    }
}
