//! Configuration in TOML: read, judged and resolved before the port is taken. Unknown keys are errors.

mod limits;
mod memory;
mod registry;
mod vault;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rempart_attest::certificate;
use rempart_attest::ek::EkRoots;
use rempart_attest::policy::signature::AllowedSigners;
use serde::Deserialize;

pub use limits::Limits;
pub use memory::{Degraded, Memory};
pub use registry::RegistryKind;
pub use vault::{Login, VaultSettings};

use crate::endorsements;
use crate::error::Error;
use crate::file;
use registry::Problem;

/// Policy signatures demanded at most, count: more keys than an owner has hands.
pub const SIGNATURES: usize = 16;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    listen: String,
    id: String,
    tls_certificate: PathBuf,
    tls_key: PathBuf,
    state_dir: PathBuf,
    ek_roots: Vec<PathBuf>,
    #[serde(default)]
    ek: EkRule,
    allowed_signers: PathBuf,
    store_key_file: Option<PathBuf>,
    registry: Option<registry::Fragment>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    memory: Memory,
    vault: Option<vault::Fragment>,
    #[serde(default)]
    policy: PolicyFragment,
    #[serde(default)]
    endorsements: endorsements::Fragment,
}

/// `[policy]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyFragment {
    signatures_required: usize,
}

impl Default for PolicyFragment {
    fn default() -> Self {
        Self { signatures_required: 1 }
    }
}

/// What a TPM must show to enrol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EkRule {
    /// A certificate by one of the `ek_roots`.
    #[default]
    Certified,
    /// The operator's word: the first EK under a name waits for `node approve`. For TPMs without certificates.
    Approve,
    /// Nothing: the first EK under a name is believed.
    FirstUse,
}

/// Judged settings.
pub struct Config {
    /// Where nodes connect to.
    pub listen: SocketAddr,
    /// The Verifier's identifier: issuer and audience of what it signs.
    pub id: String,
    /// PEM.
    pub tls_certificate: PathBuf,
    /// PEM.
    pub tls_key: PathBuf,
    /// Keys and registry.
    pub state_dir: PathBuf,
    /// Trusted manufacturers.
    pub ek_roots: EkRoots,
    /// What a TPM must show.
    pub ek: EkRule,
    /// File of those who may sign policies.
    pub allowed_signers: PathBuf,
    /// The key that the secrets are encrypted under.
    pub store_key_file: PathBuf,
    /// Where the registry is.
    pub registry: RegistryKind,
    /// What may be asked for.
    pub limits: Limits,
    /// What it means that this process's memory is not secret.
    pub memory: Memory,
    /// Where logins of drifted nodes are stopped.
    pub vault: Option<VaultSettings>,
    /// How many different signers a policy needs.
    pub signatures_required: usize,
    /// Where endorsements of TEEs come from.
    pub endorsements: endorsements::Settings,
}

impl Config {
    /// Reads and judges; relative paths start at the file's directory.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let fail = |why: String| Error::Config { path: path.into(), why };
        let fragment: Fragment = toml::from_str(&file::read_text(path)?).map_err(|e| fail(one_line(&e)))?;
        let base = path.parent().unwrap_or(Path::new("/"));
        let listen = fragment
            .listen
            .parse()
            .map_err(|_| fail(format!("listen = \"{}\" is not ADDRESS:PORT", fragment.listen)))?;
        judge_id(&fragment.id).map_err(|why| fail(why.into()))?;
        let ek_roots = ek_roots(fragment.ek_roots.iter().map(|p| base.join(p)))?;
        if fragment.ek == EkRule::Certified && ek_roots.is_empty() {
            return Err(fail("ek_roots names no certificate, so no TPM could enrol: name your TPMs' manufacturers, or set ek = \"approve\"".into()));
        }
        let state_dir = base.join(fragment.state_dir);
        let explain = |problem| match problem {
            Problem::Words(why) => fail(why.into()),
            Problem::File(error) => error,
        };
        let registry = registry::judge(fragment.registry, base, &state_dir).map_err(explain)?;
        let vault = fragment
            .vault
            .map(|vault| vault::judge(vault, base))
            .transpose()
            .map_err(explain)?;
        fragment.limits.judge().map_err(|why| fail(why.into()))?;
        let signatures_required = fragment.policy.signatures_required;
        if !(1..=SIGNATURES).contains(&signatures_required) {
            return Err(fail(format!("policy.signatures_required is not 1 to {SIGNATURES}")));
        }
        let config = Self {
            endorsements: fragment.endorsements.judge(base, &state_dir)?,
            registry,
            limits: fragment.limits,
            memory: fragment.memory,
            vault,
            signatures_required,
            listen,
            id: fragment.id,
            tls_certificate: base.join(fragment.tls_certificate),
            tls_key: base.join(fragment.tls_key),
            store_key_file: fragment
                .store_key_file
                .map_or_else(|| state_dir.join("store.key"), |p| base.join(p)),
            state_dir,
            ek_roots,
            ek: fragment.ek,
            allowed_signers: base.join(fragment.allowed_signers),
        };
        config.signers()?;
        Ok(config)
    }

    /// Those who may sign policies, as the file says now.
    pub fn signers(&self) -> Result<AllowedSigners, Error> {
        let text = file::read_text(&self.allowed_signers)?;
        AllowedSigners::parse(&text).map_err(|e| Error::Config {
            path: self.allowed_signers.clone(),
            why: e.to_string(),
        })
    }
}

/// The identifier goes into JWTs, bindings and discovery documents: it must be one plain https URL without a final slash.
pub fn judge_id(id: &str) -> Result<(), &'static str> {
    let host = id.strip_prefix("https://").ok_or("id must be an https URL")?;
    let plain = !host.is_empty()
        && !host.ends_with('/')
        && host.chars().all(|c| c.is_ascii_graphic() && !"\"\\?#@".contains(c));
    if plain && id.len() <= rempart_attest::limits::VERIFIER_ID {
        Ok(())
    } else {
        Err("id must be an https URL without a final slash, query or user")
    }
}

fn ek_roots(paths: impl Iterator<Item = PathBuf>) -> Result<EkRoots, Error> {
    let mut ders = Vec::new();
    for path in paths {
        let pem = file::read(&path)?;
        let found = certificate::pem_to_ders(&pem).map_err(|source| Error::Certificate {
            path: path.clone(),
            source,
        })?;
        if found.is_empty() {
            return Err(Error::Config {
                path,
                why: "holds no PEM certificate".into(),
            });
        }
        EkRoots::new(found.clone()).map_err(|source| Error::Certificate { path, source })?;
        ders.extend(found);
    }
    EkRoots::new(ders).map_err(|e| Error::Usage(e.to_string()))
}

/// A TOML error in one line with its place.
fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("verifier.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    fn good() -> String {
        "listen = \"127.0.0.1:0\"\nid = \"https://v.test:8443\"\ntls_certificate = \"t.pem\"\ntls_key = \"t.key\"\nstate_dir = \".\"\n\
         ek_roots = []\nek = \"first-use\"\nallowed_signers = \"signers\"\n"
            .into()
    }

    const SIGNER: &str = "me ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJi1bZJ0nXhzwtcIoeH46x9PmZlp3x0sTq2HI0ZeOZcP me\n";

    fn load(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("signers"), SIGNER).expect("written");
        Config::load(&write(dir.path(), text))
    }

    #[test]
    fn a_good_file_is_read_and_its_paths_are_resolved() {
        let config = load(&good()).expect("reads");
        assert!(config.store_key_file.is_absolute());
        assert_eq!(config.ek, EkRule::FirstUse);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(
            load(&(good() + "colour = 1\n"))
                .err()
                .expect("refused")
                .to_string()
                .contains("colour")
        );
    }

    #[test]
    fn an_id_that_is_no_plain_https_url_is_refused() {
        for bad in ["http://v", "https://", "https://v/", "https://v?x", "v"] {
            assert!(load(&good().replace("https://v.test:8443", bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_manufacturer_is_refused_unless_first_use_is_said() {
        assert!(
            load(&good().replace("ek = \"first-use\"\n", ""))
                .err()
                .expect("refused")
                .to_string()
                .contains("ek_roots")
        );
    }

    #[test]
    fn a_file_of_signers_with_nobody_in_it_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("signers"), "# nobody\n").expect("written");
        assert!(Config::load(&write(dir.path(), &good())).is_err());
    }
}
