//! Names of nodes, roles and secrets: what may stand in a certificate, a log line and a JWT without being mistaken.

use rempart_attest::limits;

/// Why a name is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{found}\" is no {kind} name: 1 to {max} of {alphabet} are allowed")]
pub struct NameError {
    kind: &'static str,
    found: String,
    max: usize,
    alphabet: &'static str,
}

/// A node's name.
pub fn node(name: &str) -> Result<&str, NameError> {
    judge("node", name, limits::NODE_NAME, "letters, digits, . _ -", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
}

/// A role's name.
pub fn role(name: &str) -> Result<&str, NameError> {
    judge("role", name, limits::NODE_NAME, "letters, digits, . _ -", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
}

/// A secret's name: the text after `Secret=NAME=` of a unit.
pub fn secret(name: &str) -> Result<&str, NameError> {
    judge(
        "secret",
        name,
        limits::SECRET_NAME,
        "printable ASCII characters without spaces",
        |c| c.is_ascii_graphic(),
    )
}

/// A vault token's accessor.
pub fn accessor(name: &str) -> Result<&str, NameError> {
    judge("accessor", name, limits::ACCESSOR, "letters, digits, . _ -", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
}

fn judge<'a>(
    kind: &'static str,
    name: &'a str,
    max: usize,
    alphabet: &'static str,
    allowed: impl Fn(char) -> bool,
) -> Result<&'a str, NameError> {
    if !name.is_empty() && name.len() <= max && name.chars().all(allowed) {
        return Ok(name);
    }
    let found = name.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
    Err(NameError {
        kind,
        found,
        max,
        alphabet,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_words() {
        assert!(node("demo-1.example").is_ok());
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert!(node(bad).is_err(), "{bad}");
        }
        assert!(secret("kv/billing#db_password").is_ok());
        assert!(secret("a b").is_err());
    }
}
