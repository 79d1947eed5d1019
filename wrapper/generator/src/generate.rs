//! Both passes over all units: first refuse whatever could have opted in, then put the exact rewriting in its place.
//!
//! Must never remove a refusal on the way of an error: only a judgement that is complete replaces it.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rempart_core::unitfile::SECTION;
use rempart_rewrite::{Candidate, Judgement, Kind, Scope, Units, leaving, mentioned_in};

/// A drop-in could not be written: the unit may start unwrapped, and without its secrets.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {why}; the unit is not protected")]
pub struct NotWritten {
    path: PathBuf,
    why: io::Error,
}

/// Writes the drop-ins under `late`.
///
/// # Errors
/// The first drop-in that could not be written; all others are.
pub fn generate(late: &Path, scope: &Scope) -> Result<(), NotWritten> {
    let units = Units::read(&scope.folders);
    for path in units.for_all_services() {
        if mentioned_in(&path) {
            tell(&format!(
                "{} is ignored: [{SECTION}] cannot opt in all services at once; give each service, or a name prefix, a drop-in",
                path.display()
            ));
        }
    }
    let candidates = Candidate::all(&units);
    let mut outcome = Ok(());
    for candidate in &candidates {
        let refusal = candidate.refusal("rempart-generator did not finish");
        outcome = write(&late.join(candidate.output()), &refusal).or(outcome);
    }
    let prefixed = candidates.iter().any(|c| c.kind() == Kind::Prefix);
    for candidate in &candidates {
        let output = late.join(candidate.output());
        // A defect of ours must leave the refusal in place, and reach the next unit.
        let judged = catch_unwind(AssertUnwindSafe(|| candidate.judge(scope.user)));
        let written = match judged {
            Ok(Judgement::Leave) if prefixed => write(&output, &leaving()),
            Ok(Judgement::Leave) => fs::remove_file(&output).map_err(|why| NotWritten { path: output, why }),
            Ok(Judgement::Wrap(text)) => write(&output, &text),
            Ok(Judgement::Refuse(defect)) => {
                if candidate.kind() != Kind::Prefix {
                    tell(&format!("{} will not start: {defect}", candidate.name()));
                }
                write(&output, &candidate.refusal(&defect.to_string()))
            }
            Err(_) => {
                let name = candidate.name();
                tell(&format!("{name} will not start: a defect of rempart-generator"));
                Ok(())
            }
        };
        outcome = outcome.and(written);
    }
    outcome
}

/// One line to the kernel's log, which journald reads; at boot nothing else is there yet.
pub fn tell(line: &str) {
    let line = format!("<3>rempart-generator: {}\n", line.replace(char::is_control, " "));
    if fs::OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut k| io::Write::write_all(&mut k, line.as_bytes()))
        .is_err()
    {
        eprint!("{}", &line[3..]);
    }
}

fn write(path: &Path, text: &str) -> Result<(), NotWritten> {
    let failed = |why| NotWritten {
        path: path.to_owned(),
        why,
    };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    // Renamed into place: a reader sees the refusal or the rewriting, never half of one.
    let next = path.with_extension("new");
    fs::write(&next, text)
        .and_then(|()| fs::rename(&next, path))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    use rempart_rewrite::MAX_FILE;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let root = tempfile::tempdir().expect("dir");
            for (path, content) in files {
                let path = root.path().join("etc").join(path);
                fs::create_dir_all(path.parent().expect("parent")).expect("dir");
                fs::write(path, content).expect("file");
            }
            let scope = Scope {
                folders: vec![root.path().join("etc")],
                user: false,
            };
            generate(&root.path().join("late"), &scope).expect("written");
            Self(root)
        }

        fn drop_in(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.0.path().join("late").join(path)).ok()
        }
    }

    const YES: &[u8] = b"[X-Rempart]\nWrap=yes\n";
    const UNIT: &[u8] = b"[Service]\nExecStart=/bin/a\n";

    #[test]
    fn only_opted_in_units_get_a_drop_in() {
        let machine = Machine::new(&[
            ("a.service", UNIT),
            ("a.service.d/50.conf", YES),
            ("b.service", UNIT),
            ("c.service", b"# X-Rempart is not for me\n[Service]\nExecStart=/bin/a\n"),
        ]);
        let text = machine.drop_in("a.service.d/zzzz-rempart.conf").expect("wrapped");
        assert!(text.contains("ExecStart=/usr/lib/rempart/rempart-wrap -- /bin/a\n"));
        assert_eq!(machine.drop_in("b.service.d/zzzz-rempart.conf"), None);
        assert_eq!(machine.drop_in("c.service.d/zzzz-rempart.conf"), None);
    }

    #[test]
    fn ours_is_always_the_last_drop_in() {
        let machine = Machine::new(&[
            ("a.service", UNIT),
            ("a.service.d/50.conf", YES),
            (
                "a.service.d/zzzzz.conf",
                b"[Service]\nExecStart=\nExecStart=/bin/late\n",
            ),
        ]);
        let text = machine.drop_in("a.service.d/zzzzz.conf~rempart.conf").expect("wrapped");
        assert!(text.contains("rempart-wrap -- /bin/late\n"));
    }

    #[test]
    fn whatever_is_not_understood_is_refused() {
        for (files, why) in [
            (vec![("a.service.d/50.conf", YES)], "was not there"),
            (
                vec![
                    ("a.service", UNIT),
                    ("a.service.d/50.conf", b"[X-Rempart]\nWrap=yes\n\xff\n"),
                ],
                "not UTF-8",
            ),
            (
                vec![("a.service", UNIT), ("a.service.d/50.conf", b"[X-Rempart]\nWarp=yes\n")],
                "50.conf:2: unknown key Warp",
            ),
            (
                vec![("a.service", UNIT), ("a.service.d/50.conf", b"[x-rempart]\nWrap=yes\n")],
                "must be [X-Rempart]",
            ),
        ] {
            let text = Machine::new(&files)
                .drop_in("a.service.d/zzzz-rempart.conf")
                .expect("refused");
            assert!(text.contains("--refuse=") && text.contains(why), "{why}: {text}");
        }
    }

    #[test]
    fn templates_instances_prefixes_and_other_types() {
        let machine = Machine::new(&[
            ("t@.service", UNIT),
            ("t@.service.d/50.conf", YES),
            ("t@i.service.d/60.conf", b"[Service]\nExecStart=\nExecStart=/bin/i\n"),
            ("p-a.service", UNIT),
            ("p-b.service", UNIT),
            ("p-b.service.d/60.conf", b"[X-Rempart]\nWrap=no\n"),
            ("p-.service.d/50.conf", YES),
            ("s.socket", b"[X-Rempart]\nWrap=yes\n[Socket]\nListenStream=1\n"),
        ]);
        let text = |path: &str| machine.drop_in(path).unwrap_or_else(|| panic!("{path}"));
        assert!(text("t@.service.d/zzzz-rempart.conf").contains("-- /bin/a\n"));
        assert!(text("t@i.service.d/zzzz-rempart.conf").contains("-- /bin/i\n"));
        assert!(text("p-a.service.d/zzzz-rempart.conf").contains("-- /bin/a\n"));
        assert!(!text("p-b.service.d/zzzz-rempart.conf").contains("ExecStart"));
        assert!(text("p-.service.d/zzzz-rempart.conf").contains("--refuse="));
        assert!(text("s.socket.d/zzzz-rempart.conf").contains("AssertPathExists=!/"));
    }

    #[test]
    fn a_huge_file_or_a_pipe_neither_hides_an_opt_in_nor_holds_up_the_boot() {
        let mut huge = YES.to_vec();
        huge.resize(usize::try_from(MAX_FILE).expect("small"), b'\n');
        let mut late = vec![b'\n'; usize::try_from(MAX_FILE).expect("small") - 5];
        late.extend(YES);
        for text in [huge, late] {
            let machine = Machine::new(&[("a.service", UNIT), ("a.service.d/50.conf", &text)]);
            let text = machine.drop_in("a.service.d/zzzz-rempart.conf").expect("refused");
            assert!(text.contains("--refuse=") && text.contains("is longer than"), "{text}");
        }
        let machine = Machine::new(&[("a.service", UNIT), ("a.service.d/50.conf", YES)]);
        let pipe = machine.0.path().join("etc/a.service.d/40.conf");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo");
        assert!(made.success() && !mentioned_in(&pipe));
    }

    #[test]
    fn a_drop_in_for_all_services_opts_in_none() {
        let machine = Machine::new(&[("a.service", UNIT), ("service.d/50.conf", YES)]);
        assert_eq!(machine.drop_in("a.service.d/zzzz-rempart.conf"), None);
        let units = Units::read(&[machine.0.path().join("etc")]);
        assert_eq!(units.for_all_services().len(), 1, "and is told of");
    }

    #[test]
    fn user_units_are_refused() {
        let machine = Machine::new(&[("a.service", UNIT), ("a.service.d/50.conf", YES)]);
        let scope = Scope {
            folders: vec![machine.0.path().join("etc")],
            user: true,
        };
        generate(&machine.0.path().join("late"), &scope).expect("written");
        assert!(
            machine
                .drop_in("a.service.d/zzzz-rempart.conf")
                .expect("refused")
                .contains("user manager")
        );
    }
}
