//! The agent's configuration, in three stages: fragments (files as written), their merge, and judged
//! [`Settings`]. Nothing after this module meets an unchecked value.
//!
//! Later fragments override earlier ones key by key. Unknown keys are errors: a misspelt protection must
//! never silently be the default.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use fragment::VerifierFragment;
use rempart_api::guard::{Loader, LoaderError, Mode};

/// One file as written.
mod fragment;
/// Where a server is.
mod origin;
/// `[tee]`.
mod tee;
/// `[vault]`.
mod vault;

pub use fragment::Fragment;
pub use origin::Origin;
pub use tee::{Tee, TeeProvider};
pub use vault::{Vault, VaultAuth};

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
    /// A list of foreign BPF programs is none.
    #[error("configuration: `guard.foreign_bpf`: {0}")]
    OperatorLoader(#[from] LoaderError),
}

/// Does the agent go on without a protection?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Degraded {
    /// No; the default.
    Refuse,
    /// Yes, and status and Evidence say what is missing.
    Allow,
}

/// Does systemd's own signed report go into the Evidence?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemdReport {
    /// No; the default, because systemd has to be given the node's key first.
    Off,
    /// Where systemd makes one with the node's key.
    Auto,
    /// Yes, and the node does not attest without it.
    Required,
}

/// `[tpm]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// TCTI configuration (tss2-tctildr), such as `device:/dev/tpmrm0`.
    pub tcti: String,
    /// Attestation key.
    pub ak: Option<String>,
    /// Endorsement key.
    pub ek: Option<String>,
    /// PCR bank.
    pub bank: Option<String>,
    /// Registers that sealed secrets are bound to.
    pub sealed_pcrs: Vec<u8>,
}

/// Loader, Secure Boot, command line with initrd, and what overrides the command line: they stand when the kernel starts, and repeat.
const SEALED_PCRS: [u8; 4] = [4, 7, 9, 12];
/// As many as a TPM reads at once.
const MAX_SEALED_PCRS: usize = 8;

/// `[verifier]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The server.
    pub origin: Origin,
    /// PEM file with its certificate authority; no other is trusted.
    pub ca: PathBuf,
}

/// The configuration, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The node's name, as the Verifier's operator knows it.
    pub node: String,
    /// The Verifier; `None` where the TPM alone judges the boot, which it can only for what it keeps itself.
    pub verifier: Option<Verifier>,
    /// The TPM, as written but for its defaults: the words are the TPM library's, which judges them.
    pub tpm: Tpm,
    /// The TEE's report.
    pub tee: Tee,
    /// Where the secrets come from.
    pub vault: Vault,
    /// What a kernel that does not enforce means.
    pub degraded: Degraded,
    /// What happens to changes of Rempart's own files while the machine is armed.
    pub files: Mode,
    /// Only the agent, and systemd where it measures the boot, may use the TPM while the machine is armed.
    pub tpm_exclusive: bool,
    /// Who besides systemd may load BPF programs while the machine is armed, and which.
    pub foreign_bpf: Vec<Loader>,
    /// What it means that the agent's own memory is not secret.
    pub memory: Degraded,
    /// Roles under which a command that no unit file defines gets secrets; none by default.
    pub run_roles: BTreeSet<String>,
    /// Time between two attestations.
    pub interval: Duration,
    /// systemd's own report.
    pub systemd_report: SystemdReport,
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
        let vault = vault::judge(merged.vault)?;
        let tee = tee::judge(merged.tee)?;
        let verifier = verifier(merged.verifier, &vault, &tee)?;
        let systemd_report = match merged.attest.systemd_report.as_deref() {
            None | Some("off") => SystemdReport::Off,
            Some("auto") => SystemdReport::Auto,
            Some("required") => SystemdReport::Required,
            Some(other) => {
                let why = "must be \"off\", \"auto\" or \"required\"";
                return Err(value("attest.systemd_report", other, why));
            }
        };
        Ok(Self {
            node,
            verifier,
            tpm: Tpm {
                tcti: merged.tpm.tcti.unwrap_or_else(|| "device:/dev/tpmrm0".to_owned()),
                ak: merged.tpm.ak,
                ek: merged.tpm.ek,
                bank: merged.tpm.bank,
                sealed_pcrs: sealed_pcrs(merged.tpm.sealed_pcrs)?,
            },
            tee,
            vault,
            degraded: degraded("guard.degraded", merged.guard.degraded.as_deref())?,
            files: match merged.guard.files.as_deref() {
                None | Some("enforce") => Mode::Enforce,
                Some("observe") => Mode::Observe,
                Some(other) => return Err(value("guard.files", other, "must be \"enforce\" or \"observe\"")),
            },
            tpm_exclusive: match (merged.tpm.exclusive, systemd_report) {
                (Some(true), SystemdReport::Auto | SystemdReport::Required) => {
                    let why =
                        "systemd needs the TPM for its report; set attest.systemd_report = \"off\", or this to false";
                    return Err(value("tpm.exclusive", "true", why));
                }
                (None, report) => report == SystemdReport::Off,
                (Some(exclusive), _) => exclusive,
            },
            foreign_bpf: {
                let list = merged.guard.foreign_bpf.unwrap_or_default();
                Loader::check(&list)?;
                list
            },
            memory: degraded("memory.degraded", merged.memory.degraded.as_deref())?,
            run_roles: run_roles(merged.run.roles.unwrap_or_default())?,
            interval: interval(merged.attest.interval.as_deref().unwrap_or("10m"))?,
            systemd_report,
        })
    }
}

/// Both keys or, for a node that keeps its secrets itself, neither.
fn verifier(written: VerifierFragment, vault: &Vault, tee: &Tee) -> Result<Option<Verifier>, ConfigError> {
    if (&written.url, &written.ca, vault) == (&None, &None, &Vault::Tpm) {
        return match tee.required {
            true => Err(value(
                "tee.required",
                "true",
                "needs a [verifier], which judges the report",
            )),
            false => Ok(None),
        };
    }
    let url = written.url.ok_or(ConfigError::OperatorMissing("verifier.url"))?;
    let ca = absolute("verifier.ca", written.ca)?;
    let origin = Origin::parse("verifier.url", &url)?;
    Ok(Some(Verifier { origin, ca }))
}

fn value(key: &'static str, value: &str, why: &'static str) -> ConfigError {
    ConfigError::OperatorValue {
        key,
        value: value.to_owned(),
        why,
    }
}

fn degraded(key: &'static str, word: Option<&str>) -> Result<Degraded, ConfigError> {
    match word {
        None | Some("refuse") => Ok(Degraded::Refuse),
        Some("allow") => Ok(Degraded::Allow),
        Some(other) => Err(value(key, other, "must be \"refuse\" or \"allow\"")),
    }
}

/// In ascending order. None at all would seal to whatever boots.
fn sealed_pcrs(written: Option<Vec<u8>>) -> Result<Vec<u8>, ConfigError> {
    let written = written.unwrap_or_else(|| SEALED_PCRS.to_vec());
    let ascending: BTreeSet<u8> = written.iter().copied().collect();
    if ascending.is_empty() || ascending.len() > MAX_SEALED_PCRS || ascending.iter().any(|pcr| *pcr > 15) {
        let why = "must be 1 to 8 registers, each from 0 to 15";
        return Err(value("tpm.sealed_pcrs", &format!("{written:?}"), why));
    }
    Ok(ascending.into_iter().collect())
}

/// Each by its name: there is no word for all of them.
fn run_roles(words: Vec<String>) -> Result<BTreeSet<String>, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match words.iter().find(|word| word.is_empty() || !word.bytes().all(plain)) {
        Some(word) => Err(value(
            "run.roles",
            word,
            "each must be a role's name, as `Role=` has it",
        )),
        None => Ok(words.into_iter().collect()),
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
        assert!(settings.run_roles.is_empty());
        assert_eq!(settings.systemd_report, SystemdReport::Off);
        assert_eq!(settings.tpm.tcti, "device:/dev/tpmrm0");
        assert_eq!(
            (&settings.tpm.ak, &settings.tpm.ek, &settings.tpm.bank),
            (&None, &None, &None)
        );
        assert_eq!(
            (settings.tee.provider, settings.tee.required, settings.tee.vmpl),
            (TeeProvider::Auto, false, None)
        );
        let Vault::OpenBao { auth, .. } = settings.vault else {
            panic!("OpenBao")
        };
        assert_eq!(auth, VaultAuth::Jwt { mount: "jwt".into() });
    }

    #[test]
    fn the_shipped_example_is_a_whole_configuration_and_says_the_defaults() {
        let example = judge(include_str!(
            "../../../../packaging/common/etc/rempart/rempart.toml.example"
        ));
        let example = example.expect("what an operator copies");
        let plain = judge(GOOD).expect("a whole configuration");
        assert_eq!(
            (
                example.tee,
                example.degraded,
                example.interval,
                example.systemd_report,
                example.run_roles
            ),
            (
                plain.tee,
                plain.degraded,
                plain.interval,
                plain.systemd_report,
                plain.run_roles
            )
        );
        assert_eq!(example.tpm.tcti, plain.tpm.tcti);
        assert!(!example.vault.by_certificate());
    }

    #[test]
    fn only_a_node_that_keeps_its_secrets_itself_may_be_without_a_verifier() {
        let alone = "[node]\nname = \"demo-1\"\n[vault]\nkind = \"tpm\"\n";
        let settings = judge(alone).expect("whole");
        assert_eq!((settings.verifier, settings.vault), (None, Vault::Tpm));
        assert_eq!(settings.tpm.sealed_pcrs, SEALED_PCRS);
        for (text, key) in [
            (alone.replace("tpm", "verifier"), "verifier.url"),
            (format!("{alone}[verifier]\nca = \"/ca\"\n"), "verifier.url"),
            (format!("{alone}[verifier]\nurl = \"https://v:1\"\n"), "verifier.ca"),
            (format!("{alone}[tee]\nrequired = true\n"), "tee.required"),
            (format!("{alone}[tpm]\nsealed_pcrs = []\n"), "tpm.sealed_pcrs"),
            (format!("{alone}[tpm]\nsealed_pcrs = [16]\n"), "tpm.sealed_pcrs"),
            (
                format!("{alone}[tpm]\nsealed_pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8]\n"),
                "tpm.sealed_pcrs",
            ),
            (format!("{alone}auth = \"cert\"\n"), "vault.auth"),
        ] {
            let error = judge(&text).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
        let twice = judge(&format!("{alone}[tpm]\nsealed_pcrs = [7, 4, 7]\n"));
        assert_eq!(twice.expect("whole").tpm.sealed_pcrs, [4, 7]);
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
        assert_eq!(settings.verifier.map(|verifier| verifier.origin.port), Some(8443));
    }

    #[test]
    fn every_way_to_a_report_and_to_a_login_can_be_named() {
        for (word, provider) in [
            ("auto", TeeProvider::Auto),
            ("none", TeeProvider::None),
            ("configfs-tsm", TeeProvider::ConfigfsTsm),
            ("sev-guest", TeeProvider::SevGuest),
            ("vtpm-nv", TeeProvider::VtpmNv),
            ("file", TeeProvider::File),
        ] {
            let settings = judge(&format!("{GOOD}\n[tee]\nprovider = \"{word}\"\n")).expect(word);
            assert_eq!(settings.tee.provider, provider);
        }
        for level in 0..=3 {
            let settings = judge(&format!("{GOOD}\n[tee]\nvmpl = {level}\n")).expect("a level");
            assert_eq!(settings.tee.vmpl, Some(level));
        }
        let settings = judge(&format!("{GOOD}\nauth = \"cert\"\ncert_mount = \"pki/nodes\"")).expect("by certificate");
        assert!(settings.vault.by_certificate());
        assert!(!judge(GOOD).expect("by result").vault.by_certificate());
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
            (
                "[node]",
                "[guard]\nforeign_bpf = [{ path = \"x\", tags = [] }]\n[node]",
                "guard.foreign_bpf",
            ),
            (
                "[node]",
                "[guard]\nforeign_bpf = [{ path = \"/x\", tags = [\"+bcdef0123456789\"] }]\n[node]",
                "guard.foreign_bpf",
            ),
            (
                "[node]",
                "[guard]\nforeign_bpf = [{ path = \"/x\", tag = \"0123456789abcdef\" }]\n[node]",
                "foreign_bpf",
            ),
            ("[node]", "[memory]\ndegraded = \"yes\"\n[node]", "memory.degraded"),
            ("[node]", "[attest]\ninterval = \"1s\"\n[node]", "attest.interval"),
            ("[node]", "[attest]\ninterval = \"\"\n[node]", "attest.interval"),
            (
                "[node]",
                "[attest]\nsystemd_report = \"yes\"\n[node]",
                "attest.systemd_report",
            ),
            ("[node]", "[guard]\ndegarded = \"refuse\"\n[node]", "degarded"),
            ("name = \"demo-1\"", "", "node.name"),
            ("openbao\"", "openbao\"\nauth = \"token\"", "vault.auth"),
            ("openbao\"", "verifier\"\nauth = \"cert\"", "vault.auth"),
            ("openbao\"", "verifier\"\nauth = \"approle\"", "vault.auth"),
            (
                "openbao\"",
                "openbao\"\nauth = \"approle\"\napprole_folder = \"x\"",
                "vault.approle_folder",
            ),
            (
                "openbao\"",
                "openbao\"\nauth = \"cert\"\ncert_mount = \"../sys\"",
                "vault.cert_mount",
            ),
            ("openbao\"", "openbao\"\nauth_mount = \"jwt/\"", "vault.auth_mount"),
            ("[node]", "[tee]\nprovider = \"sgx\"\n[node]", "tee.provider"),
            ("[node]", "[tee]\nprovider = \"file:/x\"\n[node]", "tee.provider"),
            (
                "[node]",
                "[tee]\nprovider = \"none\"\nrequired = true\n[node]",
                "tee.provider",
            ),
            ("[node]", "[tee]\nrequired = \"yes\"\n[node]", "required"),
            ("[node]", "[tee]\nvmpl = 4\n[node]", "tee.vmpl"),
            ("[node]", "[tee]\nvmpl = -1\n[node]", "vmpl"),
            ("[node]", "[tee]\nprovider = \"none\"\nvmpl = 1\n[node]", "tee.vmpl"),
            ("[node]", "[tee]\nprovider = \"vtpm-nv\"\nvmpl = 0\n[node]", "tee.vmpl"),
            ("[node]", "[run]\nroles = [\"*\"]\n[node]", "run.roles"),
            ("[node]", "[run]\nroles = \"ops\"\n[node]", "roles"),
            ("[node]", "[tpm]\npcrs = \"4\"\n[node]", "pcrs"),
        ] {
            let error = judge(&GOOD.replacen(from, to, 1)).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
            assert!(!error.to_string().contains('\n'), "one line: {error}");
        }
    }
}
