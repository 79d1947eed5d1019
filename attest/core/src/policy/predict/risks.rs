//! What a measured kernel command line must say so that the host cannot configure the guest by ways that no register shows. Each row
//! was seen to work on a real boot without the words, and seen to be without effect with them (docs/host-configuration.md).

use super::PredictError;

/// One way in, and the words that close it.
#[derive(Debug, PartialEq, Eq)]
pub struct Risk {
    /// The name under which it can be accepted.
    pub name: &'static str,
    /// Words that must all stand on the command line.
    pub arguments: &'static [&'static str],
    /// Beginnings of words that would undo them: such a word must be one of `arguments`.
    switches: &'static [&'static str],
    /// What could happen.
    pub reason: &'static str,
}

/// All of them.
pub const RISKS: [Risk; 4] = [
    Risk {
        name: "host-credentials",
        arguments: &["systemd.import_credentials=no"],
        switches: &["systemd.import_credentials"],
        reason: "the host could run code as root in the guest and no measurement would show it",
    },
    Risk {
        name: "efi-options",
        arguments: &["SYSTEMD_EFI_OPTIONS=", "systemd.setenv=SYSTEMD_EFI_OPTIONS="],
        switches: &["SYSTEMD_EFI_OPTIONS", "systemd.setenv=SYSTEMD_EFI_OPTIONS"],
        reason: "the host could add kernel arguments through the EFI variable SystemdOptions and no measurement would show it",
    },
    Risk {
        name: "gpt-auto",
        arguments: &["systemd.gpt_auto=no"],
        switches: &["systemd.gpt_auto"],
        reason: "systemd would mount or swap to partitions that it finds on the host's disk",
    },
    Risk {
        name: "hibernation",
        arguments: &["nohibernate"],
        switches: &[],
        reason: "the kernel would resume from a memory image on the host's disk",
    },
];

impl Risk {
    /// Whether a command line closes this way. Where a word stands several times, programs differ in which one they follow, so all
    /// must agree.
    pub fn is_closed(&self, cmdline: &str) -> bool {
        let words = || cmdline.split_ascii_whitespace();
        let heard = heard_by_all(cmdline);
        let all_there = self.arguments.iter().all(|argument| heard.contains(argument));
        let undone = words().any(|word| {
            let known = normal(word);
            let is_switch = self.switches.iter().any(|switch| known.starts_with(&normal(switch)));
            is_switch && !self.arguments.contains(&word)
        });
        all_there && !undone
    }
}

/// The words that kernel and systemd both take for themselves: outside of either kind of quotes, and before a lone `--`, behind which
/// the kernel takes nothing.
fn heard_by_all(cmdline: &str) -> Vec<&str> {
    let mut heard = Vec::new();
    let (mut single, mut double) = (false, false);
    for word in cmdline.split_ascii_whitespace().take_while(|word| *word != "--") {
        let begins_outside = !single && !double;
        single ^= word.matches('\'').count() % 2 == 1;
        double ^= word.matches('"').count() % 2 == 1;
        if begins_outside {
            heard.push(word);
        }
    }
    heard
}

/// A word as the most lenient of its readers takes it: quotes do not count, `-` and `_` are the same, `rd.` means in the initrd.
fn normal(word: &str) -> String {
    let plain: String = word
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .map(|c| if c == '-' { '_' } else { c })
        .collect();
    plain.strip_prefix("rd.").map(str::to_owned).unwrap_or(plain)
}

/// The risks that a command line leaves open.
pub fn open(cmdline: &str) -> impl Iterator<Item = &'static Risk> {
    RISKS.iter().filter(move |risk| !risk.is_closed(cmdline))
}

/// The names that must be recorded in the policy: all open risks, when the operator accepts each of them.
pub(crate) fn accepted(cmdline: &str, accept: &[String]) -> Result<Vec<String>, PredictError> {
    open(cmdline)
        .map(|risk| match accept.iter().any(|name| name == risk.name) {
            true => Ok(risk.name.to_owned()),
            false => Err(PredictError::Risk(risk)),
        })
        .collect()
}

/// Refuses a name that no risk has.
pub(crate) fn are_known(accept: &[String]) -> Result<(), PredictError> {
    match accept.iter().find(|name| !RISKS.iter().any(|risk| risk.name == *name)) {
        Some(unknown) => Err(PredictError::UnknownRisk(unknown.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: &str = "ro systemd.import_credentials=no SYSTEMD_EFI_OPTIONS= systemd.setenv=SYSTEMD_EFI_OPTIONS= \
                        systemd.gpt_auto=no nohibernate quiet";

    fn names(cmdline: &str) -> Vec<&'static str> {
        open(cmdline).map(|risk| risk.name).collect()
    }

    #[test]
    fn each_word_is_demanded() {
        assert_eq!(names(SAFE), [""; 0]);
        for risk in &RISKS {
            for argument in risk.arguments {
                let without: Vec<_> = SAFE.split(' ').filter(|word| word != argument).collect();
                assert_eq!(names(&without.join(" ")), [risk.name], "{argument}");
                let as_part_of_another = SAFE.replace(&format!(" {argument} "), &format!(" x{argument} "));
                assert_eq!(names(&as_part_of_another), [risk.name], "{argument}");
            }
        }
    }

    #[test]
    fn a_word_that_the_kernel_or_systemd_takes_for_something_else_is_none() {
        let moved = SAFE.replace(" nohibernate", "");
        for line in [
            format!("{moved} -- nohibernate"),
            format!("{moved} x=\"a nohibernate b\""),
            format!("{moved} x='a nohibernate b'"),
        ] {
            assert_eq!(names(&line), ["hibernation"], "{line}");
        }
        assert_eq!(
            names(&format!("x=\"a b\" y='c' {SAFE} -- z")),
            [""; 0],
            "whole quotes before it do no harm"
        );
    }

    #[test]
    fn a_word_that_undoes_another_opens_the_risk_again() {
        for (word, risk) in [
            ("systemd.import_credentials=yes", "host-credentials"),
            ("systemd.import_credentials", "host-credentials"),
            ("systemd.import-credentials=1", "host-credentials"),
            ("rd.systemd.import_credentials=yes", "host-credentials"),
            ("\"systemd.import_credentials=yes\"", "host-credentials"),
            ("systemd.\"import\"_credentials=yes", "host-credentials"),
            ("SYSTEMD_EFI_OPTIONS=x", "efi-options"),
            ("systemd.setenv=SYSTEMD_EFI_OPTIONS=x", "efi-options"),
            ("rd.systemd.setenv=SYSTEMD_EFI_OPTIONS=x", "efi-options"),
            ("systemd.gpt_auto", "gpt-auto"),
            ("systemd.gpt-auto=yes", "gpt-auto"),
            ("rd.systemd.gpt_auto=1", "gpt-auto"),
        ] {
            assert_eq!(names(&format!("{SAFE} {word}")), [risk], "{word}");
            assert_eq!(names(&format!("{word} {SAFE}")), [risk], "{word}");
        }
    }

    #[test]
    fn an_open_risk_is_accepted_by_name_only_and_recorded() {
        let accept = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(accepted(SAFE, &accept(&["hibernation"])), Ok(vec![]), "nothing is open");
        let open = SAFE.replace(" nohibernate", "");
        assert_eq!(accepted(&open, &[]), Err(PredictError::Risk(&RISKS[3])));
        assert_eq!(
            accepted(&open, &accept(&["gpt-auto"])),
            Err(PredictError::Risk(&RISKS[3]))
        );
        assert_eq!(accepted(&open, &accept(&["hibernation"])), Ok(accept(&["hibernation"])));
        assert_eq!(
            are_known(&accept(&["everything"])),
            Err(PredictError::UnknownRisk("everything".into()))
        );
        assert_eq!(are_known(&accept(&["gpt-auto", "efi-options"])), Ok(()));
    }
}
