//! `[endorsements]` of the configuration.

use std::path::{Path, PathBuf};

use rempart_attest::certificate;
use rempart_attest::tee::Roots;
use serde::Deserialize;

use crate::error::Error;
use crate::file;

/// Bundles of web roots, of Debian and of Fedora.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The table of the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Directory of certificates; what the vendor's service gives is kept here. Default: `endorsements` in the state directory.
    offline: Option<PathBuf>,
    /// AMD's service (`https://kdsintf.amd.com`) or a cache that speaks as it does. Absent: nobody is asked.
    kds: Option<String>,
    /// PEM of who may be that service. Default: the system's web roots.
    kds_ca: Option<PathBuf>,
    /// PEM files of roots of one's own, for tests. A policy must accept what they sign by name.
    #[serde(default)]
    extra_roots: Vec<PathBuf>,
}

/// Judged settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store.
    pub offline: PathBuf,
    /// The service.
    pub kds: Option<Kds>,
    /// The vendors' roots, and the operator's.
    pub roots: Roots,
}

/// The vendor's service.
#[derive(Clone, Debug)]
pub struct Kds {
    /// Without a final slash.
    pub url: String,
    /// PEM file of web roots; none for plain HTTP.
    pub ca: Option<PathBuf>,
}

impl Fragment {
    /// Reads roots, resolves paths from `base`.
    pub fn judge(self, base: &Path, state_dir: &Path) -> Result<Settings, Error> {
        let mut roots = Vec::new();
        for path in self.extra_roots.iter().map(|p| base.join(p)) {
            let ders = certificate::pem_to_ders(&file::read(&path)?);
            let ders = ders.map_err(|source| Error::Certificate {
                path: path.clone(),
                source,
            })?;
            Roots::with_extra(&ders).map_err(|source| Error::Certificate { path, source })?;
            roots.extend(ders);
        }
        Ok(Settings {
            offline: self
                .offline
                .map_or_else(|| state_dir.join("endorsements"), |p| base.join(p)),
            kds: self
                .kds
                .map(|url| kds(&url, self.kds_ca.map(|p| base.join(p))))
                .transpose()?,
            roots: Roots::with_extra(&roots).map_err(|e| Error::Usage(e.to_string()))?,
        })
    }
}

/// What it gives is verified by itself, so plain HTTP to a cache of one's own is no danger but to privacy.
fn kds(url: &str, ca: Option<PathBuf>) -> Result<Kds, Error> {
    let url = url.trim_end_matches('/').to_owned();
    let fail = || Error::Usage(format!("endorsements.kds = \"{url}\" is not an http or https URL"));
    let (scheme, host) = url.split_once("://").ok_or_else(fail)?;
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"?#@\\\"".contains(c));
    let ca = match scheme {
        "http" if plain => None,
        "https" if plain => Some(match ca {
            Some(path) => path,
            None => system_bundle()?,
        }),
        _ => return Err(fail()),
    };
    Ok(Kds { url, ca })
}

fn system_bundle() -> Result<PathBuf, Error> {
    let found = BUNDLES.into_iter().map(PathBuf::from).find(|path| path.exists());
    let why =
        "endorsements.kds is https, and there are no web roots on this system: install ca-certificates, or set kds_ca";
    found.ok_or_else(|| Error::Usage(why.into()))
}
