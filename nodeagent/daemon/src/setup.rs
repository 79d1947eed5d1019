//! Command line and configuration, judged before any socket, device or bus name is taken.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use rempart_api::path;
use rempart_attest::Bank;
use rempart_backend::{
    BackendError,
    https::{HttpsError, Trust},
};
use rempart_core::config::{ConfigError, Degraded, Fragment, Settings, Vault};
use rempart_device::{OptionError, TpmError, TpmOptions};
use rempart_secretmem::{Ordinary, Refusal, settle};

/// Why the agent cannot start as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A configured file cannot be read.
    #[error(
        "configuration {path} cannot be read: {why}; write it (see /etc/rempart/rempart.toml.example) and make it readable for the user rempart"
    )]
    OperatorUnreadable {
        /// Which.
        path: String,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A CA file is wrong.
    #[error(transparent)]
    Ca(#[from] HttpsError),
    /// The TPM's TCTI is wrong.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// A word in `[tpm]` is wrong.
    #[error("configuration: {0}")]
    OperatorTpm(#[from] OptionError),
    /// The vault's settings are wrong.
    #[error(transparent)]
    Vault(#[from] BackendError),
    /// The agent's own memory is not secret.
    #[error("{0}; or set memory.degraded = \"allow\" to run in ordinary memory")]
    Memory(#[from] Refusal),
    /// Only the check was asked for.
    #[error("configuration is good")]
    Checked,
}

/// The node agent of Rempart.
#[derive(Debug, Parser)]
#[command(name = "rempartd", version, about)]
struct Arguments {
    /// Configuration file; files in the folder conf.d beside it override it.
    #[arg(long, default_value = path::CONFIG)]
    config: PathBuf,
    /// Judge the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Where the agent works; each is elsewhere only in tests.
    #[command(flatten)]
    places: Places,
}

/// Where the agent works.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// D-Bus address instead of the system bus.
    #[arg(long, hide = true)]
    pub bus: Option<String>,
    /// Agent socket.
    #[arg(long, hide = true, default_value = path::AGENT_SOCKET)]
    pub socket: PathBuf,
    /// Guard socket.
    #[arg(long, hide = true, default_value = path::GUARD_SOCKET)]
    pub guard: PathBuf,
    /// Evidence socket.
    #[arg(long, hide = true, default_value = path::EVIDENCE_SOCKET)]
    pub evidence: PathBuf,
    /// State folder.
    #[arg(long, hide = true, default_value = path::STATE)]
    pub state: PathBuf,
    /// Folder of links for file deliveries.
    #[arg(long, hide = true, default_value = path::UNITS)]
    pub links: PathBuf,
    /// The wrapper.
    #[arg(long, hide = true, default_value = path::WRAP)]
    pub wrap: PathBuf,
    /// Folders of unit files.
    #[arg(long, hide = true, default_values = ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"])]
    pub unit_folders: Vec<PathBuf>,
}

/// Everything that was judged.
pub struct Setup {
    /// The configuration.
    pub settings: Settings,
    /// Where the agent works.
    pub places: Places,
    /// How the TPM is used.
    pub tpm: TpmOptions,
    /// Trust in the Verifier.
    pub verifier: Trust,
    /// Trust in the vault, when it is another server.
    pub vault: Option<Trust>,
}

impl Setup {
    /// Reads command line and configuration. Bad usage ends the process, as clap does it.
    pub fn load() -> Result<Self, SetupError> {
        let arguments = Arguments::parse();
        let settings = Settings::judge(merged(&arguments.config)?)?;
        // Before anything secret is read: what is in this process so far is its configuration.
        settle(match settings.memory {
            Degraded::Refuse => Ordinary::Refuse,
            Degraded::Allow => Ordinary::Allow,
        })?;
        let tpm = tpm(&settings)?;
        let verifier = trust(&settings.verifier_ca)?;
        let vault = match &settings.vault {
            Vault::OpenBao { ca, .. } => Some(trust(ca)?),
            Vault::Verifier => None,
        };
        if arguments.check {
            return Err(SetupError::Checked);
        }
        Ok(Self {
            settings,
            places: arguments.places,
            tpm,
            verifier,
            vault,
        })
    }
}

fn merged(main: &Path) -> Result<Fragment, SetupError> {
    let mut fragment = parse(main)?;
    let folder = main.with_file_name("conf.d");
    let unreadable = |why| SetupError::OperatorUnreadable {
        path: folder.display().to_string(),
        why,
    };
    let mut files = match fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unreadable(error)),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for file in files {
        fragment = fragment.overridden_by(parse(&file)?);
    }
    Ok(fragment)
}

fn parse(path: &Path) -> Result<Fragment, SetupError> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|why| SetupError::OperatorUnreadable {
        path: name.clone(),
        why,
    })?;
    Ok(Fragment::parse(&name, &text)?)
}

/// The words are the TPM library's own; what is not set is its default.
fn tpm(settings: &Settings) -> Result<TpmOptions, SetupError> {
    let written = &settings.tpm;
    let mut options = TpmOptions::new(&written.tcti);
    if let Some(ak) = &written.ak {
        options.ak = ak.parse()?;
    }
    if let Some(ek) = &written.ek {
        options.ek = ek.parse()?;
    }
    options.judge()?;
    options.bank = match settings.tpm.bank.as_deref() {
        None | Some("sha256") => Bank::Sha256,
        Some("sha384") => Bank::Sha384,
        Some(other) => {
            return Err(SetupError::Config(ConfigError::OperatorValue {
                key: "tpm.bank",
                value: other.to_owned(),
                why: "must be \"sha256\" or \"sha384\"",
            }));
        }
    };
    Ok(options)
}

fn trust(ca: &Path) -> Result<Trust, SetupError> {
    let name = ca.display().to_string();
    let pem = fs::read(ca).map_err(|why| SetupError::OperatorUnreadable {
        path: name.clone(),
        why,
    })?;
    Ok(Trust::pinned(&name, &pem)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../packaging/common/etc/rempart/rempart.toml.example");

    fn options(from: &str, to: &str) -> Result<TpmOptions, SetupError> {
        let text = EXAMPLE.replacen(from, to, 1);
        tpm(&Settings::judge(Fragment::parse("test.toml", &text)?)?)
    }

    #[test]
    fn the_examples_words_are_the_defaults_of_the_tpm() {
        let default = TpmOptions::new("device:/dev/tpmrm0");
        assert_eq!(options("", "").expect("the example"), default);
        let sha384 = options("bank = \"sha256\"", "bank = \"sha384\"").expect("the other bank");
        assert_eq!(sha384.bank, Bank::Sha384);
        let kept = options("template:ecc-p256\"\n#", "persistent:0x81010001\"\n#").expect("a key that stays");
        assert_ne!(kept.ak, default.ak);
    }

    #[test]
    fn a_wrong_word_is_refused_with_its_key_before_a_device_is_opened() {
        for (from, to, key) in [
            ("ak = \"template:ecc-p256\"", "ak = \"ecc-p256\"", "tpm.ak"),
            ("ek = \"auto\"", "ek = \"any\"", "tpm.ek"),
            ("bank = \"sha256\"", "bank = \"sha1\"", "tpm.bank"),
            ("device:/dev/tpmrm0", "usb:tpm", "tpm.tcti"),
        ] {
            let error = options(from, to).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
