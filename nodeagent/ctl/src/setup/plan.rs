//! What setup would do, as values: shown, printed as JSON, and carried out by [`super::apply`].

use serde::Serialize;

use super::{
    cmdline::{Change, change, wanted},
    owner::OwnerFile,
};
use crate::doctor::{
    facts::{Boot, Kernel, Tpm},
    installed::RUNNING,
};

/// Which part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Packages of the distribution.
    Packages,
    /// The kernel's command line.
    Kernel,
    /// Below /etc/rempart.
    Configuration,
    /// systemd.
    Services,
    /// For whoever owns Verifier and vault.
    Owner,
}

impl Part {
    /// It changes the machine beyond Rempart's own files: only when it is asked for.
    pub fn is_of_the_machine(self) -> bool {
        matches!(self, Self::Packages | Self::Kernel | Self::Services)
    }
}

/// One step.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of which part.
    pub part: Part,
    /// What for, one line.
    pub why: String,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What a step does.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum What {
    /// A file is to have this text.
    File {
        /// Which.
        path: String,
        /// All of it.
        text: String,
        /// Permission bits.
        mode: u32,
        /// The line that changes, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<Line>,
        /// How it is now.
        there: There,
    },
    /// A program is to be run.
    Command {
        /// Program and arguments.
        words: Vec<String>,
    },
    /// Only people can do it.
    Say,
}

/// One line of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// As it is; empty for a new one.
    pub before: String,
    /// As it is to be.
    pub after: String,
}

/// How a file is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum There {
    /// It is not there.
    Absent,
    /// It says just that.
    Same,
    /// It says something else.
    Different,
}

impl There {
    /// Of what is there against what is to be.
    pub fn of(there: Option<&str>, text: &str) -> Self {
        match there {
            None => Self::Absent,
            Some(there) if there == text => Self::Same,
            Some(_) => Self::Different,
        }
    }
}

impl Step {
    /// For people to do.
    pub fn say(part: Part, why: impl Into<String>) -> Self {
        Self {
            part,
            why: why.into(),
            what: What::Say,
        }
    }

    fn command(part: Part, words: Vec<String>, why: &str) -> Self {
        Self {
            part,
            why: why.to_owned(),
            what: What::Command { words },
        }
    }

    /// A whole file of ours.
    pub fn file(part: Part, path: String, text: String, there: Option<&str>, why: &str) -> Self {
        let mode = if path.ends_with(".sh") { 0o755 } else { 0o644 };
        Self {
            part,
            why: why.to_owned(),
            what: What::File {
                there: There::of(there, &text),
                path,
                text,
                mode,
                line: None,
            },
        }
    }
}

/// What os-release(5) says of the distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    id: String,
    like: String,
    version: u32,
}

impl Distribution {
    /// From its text.
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        let version = value("VERSION_ID");
        Self {
            id: value("ID"),
            like: value("ID_LIKE"),
            version: version
                .split('.')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or_default(),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.id == name || self.like.split_ascii_whitespace().any(|like| like == name)
    }

    /// The command that installs the TPM library's device module.
    fn tpm_library(&self) -> Option<Vec<String>> {
        let words: &[&str] = match () {
            () if self.id == "debian" && self.version < 13 => {
                &["apt-get", "install", "-y", "libtss2-tcti-device0", "tpm-udev"]
            }
            () if self.id == "ubuntu" && self.version < 24 => {
                &["apt-get", "install", "-y", "libtss2-tcti-device0", "tpm-udev"]
            }
            () if self.is("debian") => &["apt-get", "install", "-y", "libtss2-tcti-device0t64", "tpm-udev"],
            () if self.is("fedora") || self.is("rhel") => &["dnf", "install", "-y", "tpm2-tss"],
            () => return None,
        };
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }
}

/// What the machine itself needs.
pub fn machine(kernel: &Kernel, boot: &Boot, tpm: &Tpm, distribution: &Distribution) -> Vec<Step> {
    let mut steps = Vec::new();
    if !tpm.library {
        let why = "the agent talks to the TPM by it";
        steps.push(match distribution.tpm_library() {
            Some(words) => Step::command(Part::Packages, words, why),
            None => Step::say(
                Part::Packages,
                format!("install libtss2-tcti-device.so.0 of the TPM library: {why}"),
            ),
        });
    }
    let words = wanted(kernel);
    match change(&boot.loader, &kernel.cmdline, &kernel.release, &words) {
        Change::Nothing => {}
        Change::Elsewhere(why) => steps.push(Step::say(Part::Kernel, format!("{why}; words: {}", words.join(" ")))),
        Change::Edit { edit, then } => {
            let there = match edit.path {
                super::cmdline::GRUB => boot.loader.grub.known(),
                _ => boot.loader.kernel_cmdline.known(),
            };
            let there = There::of(there.map(String::as_str), &edit.text);
            if there != There::Same {
                steps.push(Step {
                    part: Part::Kernel,
                    why: format!("missing on the running command line: {}", words.join(" ")),
                    what: What::File {
                        path: edit.path.to_owned(),
                        text: edit.text,
                        mode: 0o644,
                        line: Some(Line {
                            number: edit.line,
                            before: edit.before,
                            after: edit.after,
                        }),
                        there,
                    },
                });
            }
            steps.push(Step::command(
                Part::Kernel,
                then,
                "the boot loader takes the command line up",
            ));
            steps.push(Step::say(
                Part::Kernel,
                "reboot: the words count from the next boot; registers that a policy names change with them, so have the policy follow",
            ));
        }
    }
    steps
}

/// What systemd is to start.
pub fn services(configuration_changes: bool) -> Vec<Step> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut enable = words(&["systemctl", "enable", "--now"]);
    enable.extend(RUNNING.map(str::to_owned));
    let mut steps = vec![Step::command(
        Part::Services,
        enable,
        "guard and agent run, now and after each boot",
    )];
    if configuration_changes {
        let restart = words(&["systemctl", "restart", "rempartd.service"]);
        steps.push(Step::command(
            Part::Services,
            restart,
            "the agent reads its configuration when it starts",
        ));
    }
    steps
}

/// The owner's files below `folder`; `there` gives what each is now.
pub fn owner(files: Vec<OwnerFile>, folder: &str, there: impl Fn(&str) -> Option<String>) -> Vec<Step> {
    let mut steps: Vec<Step> = files
        .into_iter()
        .map(|file| {
            let path = format!("{folder}/{}", file.name);
            let now = there(&path);
            Step::file(Part::Owner, path, file.text, now.as_deref(), file.why)
        })
        .collect();
    let has = |name: &str| {
        steps
            .iter()
            .any(|step| matches!(&step.what, What::File { path, .. } if path.ends_with(name)))
    };
    let mut next = Vec::new();
    if has("/verifier.sh") {
        next.push(Step::say(
            Part::Owner,
            format!("the owner reads and runs {folder}/verifier.sh; the node enrols itself at its first attestation after that"),
        ));
    }
    if has("/vault.sh") {
        next.push(Step::say(
            Part::Owner,
            format!("an administrator of the vault reads and runs {folder}/vault.sh, and puts the secrets there"),
        ));
    }
    steps.extend(next);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        boot::tests::{good_boot, good_tpm},
        facts::Seen,
        kernel::tests::good,
    };

    fn debian() -> Distribution {
        Distribution::parse("ID=debian\nVERSION_ID=\"13\"\n")
    }

    #[test]
    fn a_machine_that_has_all_is_left_alone() {
        assert_eq!(machine(&good(), &good_boot(), &good_tpm(), &debian()), []);
    }

    #[test]
    fn each_distribution_has_its_package() {
        let words = |text: &str| Distribution::parse(text).tpm_library().map(|words| words.join(" "));
        assert_eq!(
            words("ID=debian\nVERSION_ID=\"12\"").expect("known"),
            "apt-get install -y libtss2-tcti-device0 tpm-udev"
        );
        assert!(
            words("ID=debian\nVERSION_ID=\"13\"")
                .expect("known")
                .contains("device0t64")
        );
        assert!(
            words("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"")
                .expect("known")
                .contains("device0 ")
        );
        assert!(
            words("ID=rocky\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"")
                .expect("known")
                .starts_with("dnf")
        );
        assert_eq!(words("ID=other"), None);
        let mut tpm = good_tpm();
        tpm.library = false;
        let steps = machine(&good(), &good_boot(), &tpm, &Distribution::default());
        assert!(
            matches!(
                steps.as_slice(),
                [Step {
                    part: Part::Packages,
                    what: What::Say,
                    ..
                }]
            ),
            "{steps:?}"
        );
    }

    #[test]
    fn a_file_that_has_the_words_already_waits_for_the_reboot_alone() {
        let mut kernel = good();
        kernel.lsm = Seen::Is("yama".into());
        let mut boot = good_boot();
        boot.loader.grub = Seen::Is("GRUB_CMDLINE_LINUX=\"\"\n".into());
        boot.loader.programs = vec!["update-grub"];
        let steps = machine(&kernel, &boot, &good_tpm(), &debian());
        let What::File {
            path,
            text,
            line,
            there,
            ..
        } = &steps[0].what
        else {
            panic!("{steps:?}")
        };
        assert_eq!(
            (path.as_str(), *there, line.as_ref().map(|line| line.number)),
            ("/etc/default/grub", There::Different, Some(1))
        );
        assert_eq!(steps.len(), 3);
        boot.loader.grub = Seen::Is(text.clone());
        let steps = machine(&kernel, &boot, &good_tpm(), &debian());
        assert!(
            matches!(&steps[0].what, What::Command { words } if words == &["update-grub"]),
            "{steps:?}"
        );
        assert!(matches!(&steps[1].what, What::Say) && steps[1].why.starts_with("reboot"));
    }

    #[test]
    fn only_rempart_s_own_files_are_written_unasked() {
        assert!(
            [Part::Packages, Part::Kernel, Part::Services]
                .into_iter()
                .all(Part::is_of_the_machine)
        );
        assert!(!Part::Configuration.is_of_the_machine() && !Part::Owner.is_of_the_machine());
    }
}
