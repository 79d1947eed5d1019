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
    /// Mounts where nodes log in with a result: `"jwt"`, or a list.
    #[serde(default = "jwt")]
    auth_mount: OneOrMore,
    /// Mounts where they log in with a client certificate: `"cert"`, or a list. Without it none is issued, because a login by it could
    /// not be ended.
    #[serde(default)]
    cert_mount: OneOrMore,
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

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    /// Paths of mounts, without a final slash.
    fn paths(self) -> Option<Vec<String>> {
        let paths = match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        };
        let plain = |path: &String| {
            !path.is_empty()
                && path.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c))
                && !path.starts_with('/')
        };
        let all = paths.iter().all(plain);
        all.then(|| paths.iter().map(|path| path.trim_end_matches('/').to_owned()).collect())
    }
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
    /// Where nodes log in, those for results first.
    pub mounts: Vec<String>,
    /// Whether some of them are for client certificates.
    pub certificates: bool,
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
    let mut mounts = fragment
        .auth_mount
        .paths()
        .filter(|paths| !paths.is_empty())
        .ok_or(Words("vault.auth_mount is not a mount's path, or a list of them"))?;
    let certificates = fragment
        .cert_mount
        .paths()
        .ok_or(Words("vault.cert_mount is not a mount's path, or a list of them"))?;
    mounts.extend_from_slice(&certificates);
    let login = match (fragment.token_file, fragment.role) {
        (Some(file), None) => Login::Token(base.join(file)),
        (None, Some(role)) => Login::Role(role),
        _ => return Err(Words("vault needs either token_file or role")),
    };
    let tls = outward::tls(&base.join(fragment.ca))?;
    Ok(VaultSettings {
        url,
        tls,
        mounts,
        certificates: !certificates.is_empty(),
        login,
        namespace: fragment.namespace,
    })
}
