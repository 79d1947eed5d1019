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
use rempart_core::config::{ConfigError, Degraded, Fragment, Origin, Settings, Vault};
use rempart_device::{OptionError, Tpm, TpmError, TpmOptions};
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
}

/// The node agent of Rempart.
#[derive(Debug, Parser)]
#[command(name = "rempartd", version, about)]
struct Arguments {
    /// Configuration file; files in the folder conf.d beside it override it.
    #[arg(long, default_value = path::CONFIG)]
    config: PathBuf,
    /// Judge the configuration and exit.
    #[arg(long, conflicts_with = "persist_ak")]
    check: bool,
    /// Keep the attestation key of the template in tpm.ak at this handle of the TPM (0x81000000 to 0x817fffff) and exit: for TPMs that
    /// are slow to make keys. What is there already is left alone; the TPM's owner must have no password.
    #[arg(long, value_name = "HANDLE", value_parser = handle)]
    persist_ak: Option<u32>,
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
    /// Socket for credentials of systemd's.
    #[arg(long, hide = true, default_value = path::CREDENTIALS_SOCKET)]
    pub credentials: PathBuf,
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
    /// Folder of requests for jobs.
    #[arg(long, hide = true, default_value = path::JOBS)]
    pub jobs: PathBuf,
    /// The wrapper.
    #[arg(long, hide = true, default_value = path::WRAP)]
    pub wrap: PathBuf,
    /// Folders of unit files.
    #[arg(long, hide = true, default_values = ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"])]
    pub unit_folders: Vec<PathBuf>,
}

/// What the command line asked for.
pub enum Start {
    /// To serve.
    Agent(Box<Setup>),
    /// A question, which this line answers.
    Answered(String),
}

/// Everything that was judged.
pub struct Setup {
    /// The configuration.
    pub settings: Settings,
    /// Where the agent works.
    pub places: Places,
    /// How the TPM is used.
    pub tpm: TpmOptions,
    /// The Verifier and the trust in it, where there is one.
    pub verifier: Option<(Origin, Trust)>,
    /// Trust in the vault, when it is another server.
    pub vault: Option<Trust>,
    /// All that was read, for comparison with an earlier start.
    pub text: String,
}

impl Setup {
    /// Reads command line and configuration. Bad usage ends the process, as clap does it.
    pub fn load() -> Result<Start, SetupError> {
        let arguments = Arguments::parse();
        let settings = Settings::judge(merged(&arguments.config)?)?;
        // Before anything secret is read: what is in this process so far is its configuration.
        settle(match settings.memory {
            Degraded::Refuse => Ordinary::Refuse,
            Degraded::Allow => Ordinary::Allow,
        })?;
        let tpm = tpm(&settings)?;
        let mut text = format!("{settings:?}\n{:?}\n", arguments.places);
        let mut trusted = |ca: &Path| {
            let (pem, trust) = trust(ca)?;
            text.push_str(&String::from_utf8_lossy(&pem));
            Ok::<_, SetupError>(trust)
        };
        let verifier = match &settings.verifier {
            Some(verifier) => Some((verifier.origin.clone(), trusted(&verifier.ca)?)),
            None => None,
        };
        let vault = match &settings.vault {
            Vault::OpenBao { ca, .. } => Some(trusted(ca)?),
            Vault::Verifier | Vault::Tpm => None,
        };
        if arguments.check {
            return Ok(Start::Answered("configuration is good".to_owned()));
        }
        if let Some(handle) = arguments.persist_ak {
            return persist(&tpm, handle).map(Start::Answered);
        }
        Ok(Start::Agent(Box::new(Self {
            settings,
            places: arguments.places,
            tpm,
            verifier,
            vault,
            text,
        })))
    }
}

/// A handle as tpm2-tools and the configuration write it.
fn handle(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 8);
    let hex = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    hex.and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| "is not 0x and eight hexadecimal digits".to_owned())
}

/// Keeps the key, and says what the configuration has to say from now on.
fn persist(tpm: &TpmOptions, handle: u32) -> Result<String, SetupError> {
    Tpm::open(tpm)?.persist_ak(handle)?;
    Ok(format!(
        "the key of {} is at {handle:#010x}; set tpm.ak = \"persistent:{handle:#010x}\" and restart rempartd",
        tpm.ak
    ))
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

fn trust(ca: &Path) -> Result<(Vec<u8>, Trust), SetupError> {
    let name = ca.display().to_string();
    let pem = fs::read(ca).map_err(|why| SetupError::OperatorUnreadable {
        path: name.clone(),
        why,
    })?;
    let trust = Trust::pinned(&name, &pem)?;
    Ok((pem, trust))
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
    fn a_handle_is_read_as_it_is_written_elsewhere_or_not_at_all() {
        assert_eq!(handle("0x81010002"), Ok(0x8101_0002));
        for text in ["81010002", "0x8101000", "0x810100020", "0x+1010002", "0x8101000g", ""] {
            assert!(handle(text).is_err(), "{text}");
        }
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
