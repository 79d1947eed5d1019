//! The agent's configuration, in three stages: fragments (files as written), their merge, and judged
//! [`Settings`]. Nothing after this module meets an unchecked value.
//!
//! Later fragments override earlier ones key by key. Unknown keys are errors: a misspelt protection must
//! never silently be the default.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// Longest node name, in bytes: it becomes a certificate's common name (RFC 5280, ub-common-name).
pub const MAX_NODE_NAME: usize = 64;
/// Shortest time between two attestations.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time between two attestations.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Why a configuration cannot be used; the operator has to change it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("configuration {file}: {what}")]
    OperatorSyntax {
        /// Path of the file.
        file: String,
        /// The TOML reader's words, with line and column.
        what: String,
    },
    /// A key that has no default is absent.
    #[error("configuration: `{0}` is missing; set it in /etc/rempart/rempart.toml")]
    OperatorMissing(&'static str),
    /// A value cannot be used.
    #[error("configuration: `{key}` = `{value}`: {why}")]
    OperatorValue {
        /// Section and key.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wanted instead.
        why: &'static str,
    },
}

/// One file as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    #[serde(default)]
    node: NodeFragment,
    #[serde(default)]
    verifier: VerifierFragment,
    #[serde(default)]
    tpm: TpmFragment,
    #[serde(default)]
    vault: VaultFragment,
    #[serde(default)]
    guard: GuardFragment,
    #[serde(default)]
    attest: AttestFragment,
}

macro_rules! fragment {
    ($name:ident { $($key:ident),* }) => {
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name { $($key: Option<String>),* }
        impl $name {
            fn override_with(&mut self, later: Self) {
                $(if later.$key.is_some() { self.$key = later.$key; })*
            }
        }
    };
}

fragment!(NodeFragment { name });
fragment!(VerifierFragment { url, ca });
fragment!(TpmFragment { tcti });
fragment!(VaultFragment {
    kind,
    url,
    ca,
    auth_mount
});
fragment!(GuardFragment { degraded });
fragment!(AttestFragment { interval });

impl Fragment {
    /// Reads one file's text; `file` is for the error only.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::OperatorSyntax {
            file: file.to_owned(),
            what: error.to_string().trim().replace('\n', " "),
        })
    }

    /// `self` with every key that `later` sets.
    #[must_use]
    pub fn overridden_by(mut self, later: Self) -> Self {
        self.node.override_with(later.node);
        self.verifier.override_with(later.verifier);
        self.tpm.override_with(later.tpm);
        self.vault.override_with(later.vault);
        self.guard.override_with(later.guard);
        self.attest.override_with(later.attest);
        self
    }
}

/// An `https://host[:port]` origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Host name, as it stands in the server's certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// The origin as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    fn parse(key: &'static str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |why| ConfigError::OperatorValue {
            key,
            value: text.to_owned(),
            why,
        };
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| wrong("must begin with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong("the port must be 1 to 65535"))?),
            None => (rest, 443),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) || port == 0 {
            return Err(wrong("must be https://HOST[:PORT] with nothing behind it"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Where the secrets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vault {
    /// OpenBao or HashiCorp Vault.
    OpenBao {
        /// The server.
        origin: Origin,
        /// PEM file with the certificate authority of the server; no other is trusted.
        ca: PathBuf,
        /// Mount of the JWT auth method.
        auth_mount: String,
    },
    /// The Verifier's own store.
    Verifier,
}

/// Are secrets released when the kernel does not enforce?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Degraded {
    /// No; the default.
    Refuse,
    /// Yes, and status and Evidence say that nothing is enforced.
    Allow,
}

/// The configuration, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The node's name, as the Verifier's operator knows it.
    pub node: String,
    /// The Verifier.
    pub verifier: Origin,
    /// PEM file with the certificate authority of the Verifier; no other is trusted.
    pub verifier_ca: PathBuf,
    /// TCTI configuration (tss2-tctildr), such as `device:/dev/tpmrm0`.
    pub tcti: String,
    /// Where the secrets come from.
    pub vault: Vault,
    /// What a kernel that does not enforce means.
    pub degraded: Degraded,
    /// Time between two attestations.
    pub interval: Duration,
}

impl Settings {
    /// Judges the merge of all fragments.
    pub fn judge(merged: Fragment) -> Result<Self, ConfigError> {
        let node = merged.node.name.ok_or(ConfigError::OperatorMissing("node.name"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if node.is_empty() || node.len() > MAX_NODE_NAME || !node.bytes().all(plain) {
            let why = "must be 1 to 64 letters, digits, dots, dashes or underscores";
            return Err(ConfigError::OperatorValue {
                key: "node.name",
                value: node,
                why,
            });
        }
        let url = merged
            .verifier
            .url
            .ok_or(ConfigError::OperatorMissing("verifier.url"))?;
        let verifier_ca = absolute("verifier.ca", merged.verifier.ca)?;
        Ok(Self {
            node,
            verifier: Origin::parse("verifier.url", &url)?,
            verifier_ca,
            tcti: merged.tpm.tcti.unwrap_or_else(|| "device:/dev/tpmrm0".to_owned()),
            vault: vault(merged.vault)?,
            degraded: match merged.guard.degraded.as_deref() {
                None | Some("refuse") => Degraded::Refuse,
                Some("allow") => Degraded::Allow,
                Some(other) => return Err(value("guard.degraded", other, "must be \"refuse\" or \"allow\"")),
            },
            interval: interval(merged.attest.interval.as_deref().unwrap_or("10m"))?,
        })
    }
}

fn value(key: &'static str, value: &str, why: &'static str) -> ConfigError {
    ConfigError::OperatorValue {
        key,
        value: value.to_owned(),
        why,
    }
}

fn absolute(key: &'static str, path: Option<String>) -> Result<PathBuf, ConfigError> {
    let path = path.ok_or(ConfigError::OperatorMissing(key))?;
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(value(key, &path, "must be an absolute path"))
    }
}

fn vault(fragment: VaultFragment) -> Result<Vault, ConfigError> {
    match fragment.kind.as_deref() {
        None => Err(ConfigError::OperatorMissing("vault.kind")),
        Some("verifier") => Ok(Vault::Verifier),
        Some("openbao" | "vault") => {
            let url = fragment.url.ok_or(ConfigError::OperatorMissing("vault.url"))?;
            Ok(Vault::OpenBao {
                origin: Origin::parse("vault.url", &url)?,
                ca: absolute("vault.ca", fragment.ca)?,
                auth_mount: fragment.auth_mount.unwrap_or_else(|| "jwt".to_owned()),
            })
        }
        Some(other) => Err(value(
            "vault.kind",
            other,
            "must be \"openbao\", \"vault\" or \"verifier\"",
        )),
    }
}

fn interval(text: &str) -> Result<Duration, ConfigError> {
    let wrong = || {
        value(
            "attest.interval",
            text,
            "must be a number with s, m or h, from 10s to 24h",
        )
    };
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let interval = Duration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
    if (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        Ok(interval)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [node]
        name = "demo-1"
        [verifier]
        url = "https://verifier.rempart.test:8443"
        ca = "/etc/rempart/ca.pem"
        [vault]
        kind = "openbao"
        url = "https://bao.rempart.test:8200"
        ca = "/etc/rempart/ca.pem"
    "#;

    fn judge(text: &str) -> Result<Settings, ConfigError> {
        Settings::judge(Fragment::parse("test.toml", text)?)
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let settings = judge(GOOD).expect("a whole configuration");
        assert_eq!(settings.degraded, Degraded::Refuse);
        assert_eq!(settings.interval, Duration::from_secs(600));
        assert_eq!(settings.tcti, "device:/dev/tpmrm0");
    }

    #[test]
    fn a_later_fragment_overrides_single_keys() {
        let first = Fragment::parse("a", GOOD).expect("valid");
        let later = Fragment::parse("b", "[node]\nname = \"demo-2\"\n[attest]\ninterval = \"30s\"").expect("valid");
        let settings = Settings::judge(first.overridden_by(later)).expect("a whole configuration");
        assert_eq!(
            (settings.node.as_str(), settings.interval),
            ("demo-2", Duration::from_secs(30))
        );
        assert_eq!(settings.verifier.port, 8443);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_key() {
        for (from, to, word) in [
            ("demo-1", "demo 1", "node.name"),
            ("https://verifier", "http://verifier", "verifier.url"),
            (":8443\"", ":8443/x\"", "verifier.url"),
            ("\"/etc/rempart/ca.pem\"", "\"ca.pem\"", "verifier.ca"),
            ("openbao", "etcd", "vault.kind"),
            ("[node]", "[guard]\ndegraded = \"yes\"\n[node]", "guard.degraded"),
            ("[node]", "[attest]\ninterval = \"1s\"\n[node]", "attest.interval"),
            ("[node]", "[attest]\ninterval = \"\"\n[node]", "attest.interval"),
            ("[node]", "[guard]\ndegarded = \"refuse\"\n[node]", "degarded"),
            ("name = \"demo-1\"", "", "node.name"),
        ] {
            let error = judge(&GOOD.replacen(from, to, 1)).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
            assert!(!error.to_string().contains('\n'), "one line: {error}");
        }
    }
}
