//! `[vault]`: where the secrets come from, and how the node logs in there.

use std::path::PathBuf;

use super::{ConfigError, Origin, absolute, fragment::VaultFragment, value};

/// Where the secrets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vault {
    /// OpenBao or HashiCorp Vault.
    OpenBao {
        /// The server.
        origin: Origin,
        /// PEM file with the certificate authority of the server; no other is trusted.
        ca: PathBuf,
        /// How the node logs in.
        auth: VaultAuth,
        /// The server's namespace; none for the root.
        namespace: Option<String>,
        /// Each answer comes by way of a token that opens it once.
        wrapping: bool,
    },
    /// The Verifier's own store.
    Verifier,
    /// This node's own store, sealed to its TPM.
    Tpm,
}

/// How the node logs in at OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// With the Attestation Result, at the JWT auth method on `mount`.
    Jwt {
        /// Where it is mounted.
        mount: String,
    },
    /// With a client certificate over a key that never leaves the TPM, at the certificate auth method on `mount`.
    Cert {
        /// Where it is mounted.
        mount: String,
    },
    /// With two ids from files, at the AppRole auth method on `mount`. They prove nothing of the machine.
    AppRole {
        /// Where it is mounted.
        mount: String,
        /// Where `ROLE.role-id` and `ROLE.secret-id` are.
        folder: PathBuf,
    },
}

impl Vault {
    /// Whether a login needs the TLS key in the TPM.
    pub fn by_certificate(&self) -> bool {
        matches!(
            self,
            Self::OpenBao {
                auth: VaultAuth::Cert { .. },
                ..
            }
        )
    }
}

pub(super) fn judge(fragment: VaultFragment) -> Result<Vault, ConfigError> {
    let word = fragment.auth.as_deref().unwrap_or("jwt");
    let auth = match word {
        "jwt" => VaultAuth::Jwt {
            mount: mount("vault.auth_mount", fragment.auth_mount, "jwt")?,
        },
        "cert" => VaultAuth::Cert {
            mount: mount("vault.cert_mount", fragment.cert_mount, "cert")?,
        },
        "approle" => VaultAuth::AppRole {
            mount: mount("vault.approle_mount", fragment.approle_mount, "approle")?,
            folder: absolute(
                "vault.approle_folder",
                Some(
                    fragment
                        .approle_folder
                        .unwrap_or_else(|| "/etc/rempart/approle".to_owned()),
                ),
            )?,
        },
        other => {
            let why = "must be \"jwt\", \"cert\" or \"approle\"";
            return Err(value("vault.auth", other, why));
        }
    };
    match fragment.kind.as_deref() {
        None => Err(ConfigError::OperatorMissing("vault.kind")),
        Some("verifier" | "tpm") if !matches!(auth, VaultAuth::Jwt { .. }) => {
            let why = "this store needs no login; remove the key, or set vault.kind = \"openbao\"";
            Err(value("vault.auth", word, why))
        }
        Some("verifier") => Ok(Vault::Verifier),
        Some("tpm") => Ok(Vault::Tpm),
        Some("openbao" | "vault") => {
            let url = fragment.url.ok_or(ConfigError::OperatorMissing("vault.url"))?;
            Ok(Vault::OpenBao {
                origin: Origin::parse("vault.url", &url)?,
                ca: absolute("vault.ca", fragment.ca)?,
                auth,
                namespace: fragment
                    .namespace
                    .map(|name| mount("vault.namespace", Some(name), ""))
                    .transpose()?,
                wrapping: fragment.wrapping.unwrap_or_default(),
            })
        }
        Some(other) => Err(value(
            "vault.kind",
            other,
            "must be \"openbao\", \"vault\", \"verifier\" or \"tpm\"",
        )),
    }
}

/// A mount becomes a part of a URL's path.
fn mount(key: &'static str, written: Option<String>, default: &str) -> Result<String, ConfigError> {
    let mount = written.unwrap_or_else(|| default.to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let whole = mount
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    if whole && mount.bytes().all(plain) {
        Ok(mount)
    } else {
        let why = "must be a mount path of letters, digits, dots, dashes and underscores, without a slash at its ends";
        Err(value(key, &mount, why))
    }
}
