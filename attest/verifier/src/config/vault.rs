//! `[vault]`: where logins of drifted nodes are stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use serde::Deserialize;

use crate::outward;

/// The table of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// `https://HOST:PORT`
    url: String,
    /// Its authority, PEM.
    ca: PathBuf,
    /// Mounts where nodes log in: `"jwt"`, or a list with `"cert"`.
    #[serde(default = "jwt")]
    auth_mount: OneOrMore,
    /// Holds the Verifier's token.
    token_file: Option<PathBuf>,
    /// JWT role by which the Verifier logs in with a token that it signs itself.
    role: Option<String>,
    /// OpenBao's or Vault's namespace.
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn jwt() -> OneOrMore {
    OneOrMore::One("jwt".into())
}

/// How the Verifier shows who it is.
#[derive(Clone, Debug)]
pub enum Login {
    /// A token, read again each time, so that it can be renewed by others.
    Token(PathBuf),
    /// A JWT of its own for this role, at the first of the mounts.
    Role(String),
}

/// The vault.
#[derive(Clone)]
pub struct VaultSettings {
    /// Without a final slash.
    pub url: String,
    /// TLS 1.3, its authority only.
    pub tls: Arc<ClientConfig>,
    /// Where nodes log in.
    pub mounts: Vec<String>,
    /// How we do.
    pub login: Login,
    /// Where all this is.
    pub namespace: Option<String>,
}

/// Judges the table.
pub fn judge(fragment: Fragment, base: &Path) -> Result<VaultSettings, super::registry::Problem> {
    use super::registry::Problem::Words;
    let url = fragment.url.trim_end_matches('/').to_owned();
    if !url.starts_with("https://") {
        return Err(Words("vault.url is not an https URL"));
    }
    let mounts = match fragment.auth_mount {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    };
    let plain = |mount: &String| {
        !mount.is_empty()
            && mount.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c))
            && !mount.starts_with('/')
    };
    if mounts.is_empty() || !mounts.iter().all(plain) {
        return Err(Words("vault.auth_mount is not a mount's path, or a list of them"));
    }
    let login = match (fragment.token_file, fragment.role) {
        (Some(file), None) => Login::Token(base.join(file)),
        (None, Some(role)) => Login::Role(role),
        _ => return Err(Words("vault needs either token_file or role")),
    };
    let tls = outward::tls(&base.join(fragment.ca))?;
    Ok(VaultSettings {
        url,
        tls,
        mounts: mounts.iter().map(|m| m.trim_end_matches('/').to_owned()).collect(),
        login,
        namespace: fragment.namespace,
    })
}
