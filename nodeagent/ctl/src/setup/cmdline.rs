//! The kernel command line: which words it needs, in which file they belong, and that file with them.
//!
//! Must never drop a word of the operator's but one that says the contrary of a wanted one.

use rempart_attest::policy::predict::risks;

use crate::doctor::{
    facts::{Kernel, Loader, Seen},
    kernel::{OLDEST, has_bpf, version},
};

/// Where kernel-install, and ukify by it, take the command line from.
pub const KERNEL_CMDLINE: &str = "/etc/kernel/cmdline";
/// Where GRUB's scripts take it from.
pub const GRUB: &str = "/etc/default/grub";
/// Its variable for every entry, the recovery ones included.
const VARIABLE: &str = "GRUB_CMDLINE_LINUX=";
/// What boot loaders put on the running command line themselves.
const OF_THE_LOADER: [&str; 3] = ["BOOT_IMAGE=", "initrd=", "systemd.machine_id="];

/// The words that are missing on the running command line.
pub fn wanted(kernel: &Kernel) -> Vec<String> {
    let mut words = Vec::new();
    if let Seen::Is(list) = &kernel.lsm
        && !has_bpf(list)
    {
        // The kernel puts this one first, whatever the list says.
        let names = list
            .trim()
            .split(',')
            .filter(|name| !name.is_empty() && *name != "capability");
        words.push(format!("lsm={},bpf", names.collect::<Vec<_>>().join(",")).replace("lsm=,", "lsm="));
    }
    if kernel.secret_memory.is_err() {
        let off = kernel
            .cmdline
            .split_ascii_whitespace()
            .any(|word| word.starts_with("secretmem.enable="));
        if off || version(&kernel.release) < Some(OLDEST) {
            words.push("secretmem.enable=1".to_owned());
        }
    }
    if kernel
        .lockdown
        .known()
        .is_some_and(|text| text.contains("[confidentiality]"))
    {
        words.push("lockdown=integrity".to_owned());
    }
    let open = risks::open(&kernel.cmdline).flat_map(|risk| risk.arguments.iter());
    words.extend(open.map(|word| (*word).to_owned()));
    words
}

/// `line` with `words`: what says otherwise is taken out, what is there stays where it is.
pub fn amend(line: &str, words: &[String]) -> String {
    let contrary = |old: &str| {
        words.iter().any(|word| {
            let key = word.rsplit_once('=').map_or(word.as_str(), |(key, _)| key);
            old != word && (old == key || old.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')))
        })
    };
    let kept: Vec<&str> = line.split_ascii_whitespace().filter(|old| !contrary(old)).collect();
    let missing = words.iter().map(String::as_str).filter(|word| !kept.contains(word));
    // Behind a lone `--` the kernel takes nothing.
    let end = kept.iter().position(|word| *word == "--").unwrap_or(kept.len());
    let (before, behind) = kept.split_at(end);
    before
        .iter()
        .copied()
        .chain(missing)
        .chain(behind.iter().copied())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A file with the wanted words in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which.
    pub path: &'static str,
    /// All of it, as it should be.
    pub text: String,
    /// The line that changes, from 1.
    pub line: usize,
    /// That line as it is; empty for a new one.
    pub before: String,
    /// That line as it should be.
    pub after: String,
}

/// What is to be done for the words to be on the next command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// The running command line has them.
    Nothing,
    /// A file, and the command that has the boot loader take it up.
    Edit {
        /// The file; the same text when it has the words already and the machine was not rebooted.
        edit: Edit,
        /// Program and arguments.
        then: Vec<String>,
    },
    /// Only who builds the image can do it; one line.
    Elsewhere(String),
}

/// How `words` come onto the command line of a machine that is booted by `loader`; `running` is what it has now.
pub fn change(loader: &Loader, running: &str, release: &str, words: &[String]) -> Change {
    if words.is_empty() {
        return Change::Nothing;
    }
    let has = |program: &str| loader.programs.contains(&program);
    if loader.stub || loader.systemd_boot {
        let kind = if loader.stub {
            "a unified kernel image (systemd-stub)"
        } else {
            "systemd-boot"
        };
        let built = !loader.stub || has("ukify");
        let image = loader.image.as_ref().filter(|_| has("kernel-install") && built);
        let Some(image) = image else {
            return Change::Elsewhere(format!(
                "this machine boots {kind} that was not built on it: add the words to the command line of the image's build ({KERNEL_CMDLINE}, \
                 or ukify build --cmdline=), and boot that image"
            ));
        };
        let there = match &loader.kernel_cmdline {
            Seen::Hidden(why) => {
                return Change::Elsewhere(format!("{KERNEL_CMDLINE} cannot be read ({why}): add the words there"));
            }
            seen => seen.known().map(String::as_str),
        };
        let edit = kernel_cmdline(there, running, words);
        // A host can add arguments to a measured image: they are not to become the owner's own.
        if loader.stub && there.is_none_or(|text| text.trim().is_empty()) {
            return Change::Elsewhere(format!(
                "{KERNEL_CMDLINE} is not there, and what runs now may have arguments of the host: write it yourself, with the words"
            ));
        }
        // Among the words is systemd.gpt_auto=no, by which nobody looks for a root file system that is not named.
        if !edit.after.split_ascii_whitespace().any(names_root) {
            return Change::Elsewhere(format!(
                "the command line names no root file system (root=, roothash=, mount.usr=): with the words this machine would not find it; write both into {KERNEL_CMDLINE}"
            ));
        }
        return Change::Edit {
            edit,
            then: ["kernel-install", "add", release, image.as_str()]
                .map(str::to_owned)
                .to_vec(),
        };
    }
    match &loader.grub {
        Seen::Is(text) => Change::Edit {
            edit: grub(text, words),
            then: match has("update-grub") {
                true => vec!["update-grub".to_owned()],
                false => ["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]
                    .map(str::to_owned)
                    .to_vec(),
            },
        },
        _ => Change::Elsewhere(
            "no boot loader is known here: add the words where this machine's kernel command line comes from"
                .to_owned(),
        ),
    }
}

fn names_root(word: &str) -> bool {
    ["root=", "roothash=", "mount.usr=", "usrhash="]
        .iter()
        .any(|key| word.starts_with(key))
}

/// One line; anything behind it is not read by everybody, and becomes a part of it.
fn kernel_cmdline(there: Option<&str>, running: &str, words: &[String]) -> Edit {
    let before = there.unwrap_or_default();
    let line = match before.trim() {
        // What kernel-install itself does without the file.
        "" => running
            .split_ascii_whitespace()
            .filter(|word| !OF_THE_LOADER.iter().any(|own| word.starts_with(own)))
            .collect::<Vec<_>>()
            .join(" "),
        text => text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let after = amend(&line, words);
    // As it is when it has the words, whatever its form.
    let text = match after == line && !before.trim().is_empty() {
        true => before.to_owned(),
        false => format!("{after}\n"),
    };
    Edit {
        path: KERNEL_CMDLINE,
        text,
        line: 1,
        before: before.lines().next().unwrap_or_default().to_owned(),
        after,
    }
}

/// The last plain assignment is changed; where it is none that can be read without a shell, one more line adds to it.
fn grub(text: &str, words: &[String]) -> Edit {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().rposition(|line| line.starts_with(VARIABLE));
    let plain = last.and_then(|at| Some((at, unquoted(lines[at].strip_prefix(VARIABLE)?)?)));
    let (at, before, after) = match plain {
        Some((at, value)) => {
            let amended = amend(value, words);
            let same = amended == value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            let after = if same {
                lines[at].to_owned()
            } else {
                format!("{VARIABLE}\"{amended}\"")
            };
            (at, lines[at].to_owned(), after)
        }
        None => {
            let after = format!("{VARIABLE}\"$GRUB_CMDLINE_LINUX {}\"", words.join(" "));
            match lines.iter().position(|line| *line == after) {
                Some(at) => (at, after.clone(), after),
                None => (lines.len(), String::new(), after),
            }
        }
    };
    let mut new: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    match new.get_mut(at) {
        Some(line) => line.clone_from(&after),
        None => new.push(after.clone()),
    }
    Edit {
        path: GRUB,
        text: new.join("\n") + "\n",
        line: at + 1,
        before,
        after,
    }
}

/// A shell word of one kind of quotes, or none, in which the shell replaces nothing.
fn unquoted(value: &str) -> Option<&str> {
    let value = value.trim_end();
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let plain = match inner {
        Some(inner) => inner,
        None if value.contains(char::is_whitespace) => return None,
        None => value,
    };
    (!plain.contains(['"', '\'', '$', '`', '\\', '#'])).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::kernel::tests::good;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn loader(programs: &[&'static str]) -> Loader {
        Loader {
            programs: programs.to_vec(),
            image: Some("/boot/vmlinuz-6.12".into()),
            ..Loader::default()
        }
    }

    #[test]
    fn a_kernel_that_has_all_needs_no_word() {
        assert_eq!(wanted(&good()), [""; 0]);
        assert_eq!(change(&loader(&[]), "", "6.12", &[]), Change::Nothing);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let mut kernel = good();
        kernel.lsm = Seen::Is("lockdown,capability,yama,apparmor\n".into());
        kernel.cmdline = kernel.cmdline.replace("nohibernate", "");
        assert_eq!(wanted(&kernel), ["lsm=lockdown,yama,apparmor,bpf", "nohibernate"]);
        kernel.lsm = Seen::Is("capability".into());
        assert_eq!(wanted(&kernel)[0], "lsm=bpf");
        kernel.lsm = Seen::Hidden("only root may look".into());
        assert_eq!(wanted(&kernel), ["nohibernate"], "what cannot be seen is not guessed");
        let mut old = good();
        (old.release, old.secret_memory) = ("6.1.0".into(), Err("no".into()));
        assert_eq!(wanted(&old), ["secretmem.enable=1"]);
        let mut without = good();
        without.secret_memory = Err("no such system call".into());
        assert_eq!(wanted(&without), [""; 0], "no word helps a kernel without it");
        without.cmdline += " secretmem.enable=0";
        assert_eq!(wanted(&without), ["secretmem.enable=1"]);
        let mut locked = good();
        locked.lockdown = Seen::Is("none integrity [confidentiality]".into());
        assert_eq!(wanted(&locked), ["lockdown=integrity"]);
    }

    #[test]
    fn the_words_that_doctor_misses_close_what_it_found() {
        let mut kernel = good();
        kernel.cmdline = "ro systemd.gpt_auto=yes SYSTEMD_EFI_OPTIONS=x quiet".into();
        let line = amend(&kernel.cmdline, &wanted(&kernel));
        assert!(risks::open(&line).next().is_none(), "{line}");
        assert!(line.contains("ro ") && line.contains("quiet") && !line.contains("gpt_auto=yes"));
        assert_eq!(amend(&line, &wanted(&kernel)), line, "a second time changes nothing");
    }

    #[test]
    fn words_stand_before_what_the_kernel_hands_on() {
        assert_eq!(amend("ro -- single", &words("nohibernate")), "ro nohibernate -- single");
        assert_eq!(
            amend("lsm=yama,apparmor lsmx=1", &words("lsm=yama,apparmor,bpf")),
            "lsmx=1 lsm=yama,apparmor,bpf"
        );
        let setenv = words("systemd.setenv=SYSTEMD_EFI_OPTIONS=");
        assert_eq!(
            amend("systemd.setenv=A=b systemd.setenv=SYSTEMD_EFI_OPTIONS=x", &setenv),
            "systemd.setenv=A=b systemd.setenv=SYSTEMD_EFI_OPTIONS="
        );
    }

    #[test]
    fn grubs_line_is_changed_in_place_whatever_its_quotes() {
        let wanted = words("lsm=a,bpf nohibernate");
        for (line, after) in [
            (
                "GRUB_CMDLINE_LINUX=\"\"",
                "GRUB_CMDLINE_LINUX=\"lsm=a,bpf nohibernate\"",
            ),
            (
                "GRUB_CMDLINE_LINUX='console=ttyS0 lsm=a'",
                "GRUB_CMDLINE_LINUX=\"console=ttyS0 lsm=a,bpf nohibernate\"",
            ),
            (
                "GRUB_CMDLINE_LINUX=ro",
                "GRUB_CMDLINE_LINUX=\"ro lsm=a,bpf nohibernate\"",
            ),
        ] {
            let text = format!("# comment\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n{line}\nGRUB_TERMINAL=console\n");
            let edit = grub(&text, &wanted);
            assert_eq!((edit.line, edit.before.as_str(), edit.after.as_str()), (3, line, after));
            assert_eq!(edit.text, text.replace(line, after));
            let again = grub(&edit.text, &wanted);
            assert_eq!(again.text, edit.text, "a second time changes nothing");
        }
    }

    #[test]
    fn a_line_that_only_a_shell_understands_is_added_to() {
        let wanted = words("nohibernate");
        for line in [
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX a\"",
            "GRUB_CMDLINE_LINUX=\"a\" # b",
            "GRUB_CMDLINE_LINUX=\"a \\\"b\\\"\"",
            "",
        ] {
            let text = format!("{line}\n");
            let edit = grub(&text, &wanted);
            assert_eq!(
                edit.text,
                format!("{text}GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX nohibernate\"\n")
            );
            assert_eq!(
                grub(&edit.text, &wanted).text,
                edit.text,
                "a second time changes nothing"
            );
        }
    }

    #[test]
    fn each_boot_loader_has_its_file_and_its_command() {
        let wanted = words("nohibernate");
        let path = |change: &Change| match change {
            Change::Edit { edit, then } => format!("{}:{} {}", edit.path, edit.line, then.join(" ")),
            other => format!("{other:?}"),
        };
        let running = "BOOT_IMAGE=/vmlinuz initrd=x root=/dev/vda1 ro";
        let grub = Loader {
            grub: Seen::Is("GRUB_CMDLINE_LINUX=\"\"\n".into()),
            ..loader(&["update-grub"])
        };
        assert_eq!(
            path(&change(&grub, running, "6.12", &wanted)),
            "/etc/default/grub:1 update-grub"
        );
        let fedora = Loader {
            grub: Seen::Is(String::new()),
            ..loader(&["grub2-mkconfig"])
        };
        assert!(path(&change(&fedora, running, "6.12", &wanted)).ends_with("grub2-mkconfig -o /boot/grub2/grub.cfg"));
        let boot = Loader {
            systemd_boot: true,
            ..loader(&["kernel-install"])
        };
        let Change::Edit { edit, then } = change(&boot, running, "6.12", &wanted) else {
            panic!()
        };
        assert_eq!(
            (edit.path, edit.text.as_str()),
            (KERNEL_CMDLINE, "root=/dev/vda1 ro nohibernate\n")
        );
        assert_eq!(then, ["kernel-install", "add", "6.12", "/boot/vmlinuz-6.12"]);
        let again = Loader {
            kernel_cmdline: Seen::Is(edit.text.clone()),
            ..boot
        };
        let Change::Edit { edit: second, .. } = change(&again, running, "6.12", &wanted) else {
            panic!()
        };
        assert_eq!(second.text, edit.text);
        let uki = |programs| Loader {
            stub: true,
            ..loader(programs)
        };
        let built = |file: Seen<String>| Loader {
            kernel_cmdline: file,
            ..uki(&["kernel-install", "ukify"])
        };
        let own = Seen::Is("root=/dev/vda1 ro\n".to_owned());
        assert!(path(&change(&built(own), running, "6.12", &wanted)).starts_with(KERNEL_CMDLINE));
        for (file, why) in [
            (Seen::Absent, "arguments of the host"),
            (Seen::Is("# later\n".to_owned()), "names no root"),
            (Seen::Is("rw quiet\n".to_owned()), "names no root"),
            (Seen::Hidden("not UTF-8".to_owned()), "cannot be read"),
        ] {
            let said = path(&change(&built(file), running, "6.12", &wanted));
            assert!(said.contains("Elsewhere") && said.contains(why), "{said}");
        }
        for foreign in [uki(&["kernel-install"]), uki(&[]), loader(&["update-grub"])] {
            assert!(
                matches!(change(&foreign, running, "6.12", &wanted), Change::Elsewhere(_)),
                "{foreign:?}"
            );
        }
    }
}
