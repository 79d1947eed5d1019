//! Both passes over all units: first refuse whatever could have opted in, then put the exact rewriting in its place.
//!
//! Must never remove a refusal on the way of an error: only a judgement that is complete replaces it.

use std::fs;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rempart_core::unitfile::{SECTION, Source};

use crate::dropin::{self, Judgement};
use crate::units::{Found, Scope, Units, unit_type};

/// Longest unit file that is read, in bytes; systemd itself stops at lines of 1 MiB.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Sorts behind what people call their drop-ins.
const NAME: &str = "zzzz-rempart.conf";

/// A drop-in could not be written: the unit may start unwrapped, and without its secrets.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {why}; the unit is not protected")]
pub struct NotWritten {
    path: PathBuf,
    why: io::Error,
}

/// One unit, or one prefix, whose text mentions our section.
struct Candidate {
    name: String,
    found: Found,
    texts: Vec<(String, Option<String>)>,
    output: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    Prefix,
    Other,
}

/// Writes the drop-ins under `late`.
///
/// # Errors
/// The first drop-in that could not be written; all others are.
pub fn generate(late: &Path, scope: &Scope) -> Result<(), NotWritten> {
    let units = Units::read(&scope.folders);
    for path in units.for_all_services() {
        if read(&path).is_ok_and(|content| content.mentions) {
            tell(&format!(
                "{} is ignored: [{SECTION}] cannot opt in all services at once; give each service, or a name prefix, a drop-in",
                path.display()
            ));
        }
    }
    let candidates: Vec<Candidate> = candidates(&units, late);
    let mut outcome = Ok(());
    for candidate in &candidates {
        outcome = write(
            &candidate.output,
            &candidate.refusal("rempart-generator did not finish"),
        )
        .or(outcome);
    }
    let prefixed = candidates.iter().any(|c| c.kind == Kind::Prefix);
    for candidate in &candidates {
        // A defect of ours must leave the refusal in place, and reach the next unit.
        let judged = catch_unwind(AssertUnwindSafe(|| candidate.judge(scope.user)));
        let written = match judged {
            Ok(Judgement::Leave) if prefixed => write(&candidate.output, &dropin::leaving()),
            Ok(Judgement::Leave) => fs::remove_file(&candidate.output).map_err(|why| NotWritten {
                path: candidate.output.clone(),
                why,
            }),
            Ok(Judgement::Wrap(text)) => write(&candidate.output, &text),
            Ok(Judgement::Refuse(why)) => {
                if candidate.kind != Kind::Prefix {
                    tell(&format!("{} will not start: {why}", candidate.name));
                }
                write(&candidate.output, &candidate.refusal(&why))
            }
            Err(_) => {
                tell(&format!(
                    "{} will not start: a defect of rempart-generator",
                    candidate.name
                ));
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

fn candidates(units: &Units, late: &Path) -> Vec<Candidate> {
    let named = units.names().into_iter().map(|name| {
        let kind = if unit_type(name) == Some(".service") {
            Kind::Service
        } else {
            Kind::Other
        };
        (name, units.files(name), kind)
    });
    let prefixes = units
        .prefixes()
        .map(|name| (name, units.files_of_prefix(name), Kind::Prefix));
    named
        .chain(prefixes)
        .filter_map(|(name, found, kind)| Candidate::new(name, found, kind, late))
        .collect()
}

impl Candidate {
    /// `None` when no file mentions the section: then nothing can have opted in.
    fn new(name: &str, found: Found, kind: Kind, late: &Path) -> Option<Self> {
        // A drop-in for all services is a mistake, and refusing them all would take the machine down.
        let own = |path: &PathBuf| {
            path.parent()
                .and_then(Path::file_name)
                .is_none_or(|dir| dir != "service.d")
        };
        let files = found.files.iter().filter_map(|path| match read(path) {
            Ok(content) => Some((path, content)),
            // A dangling link is no file for systemd either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some((path, Content::default())),
        });
        let files: Vec<_> = files.collect();
        if !files.iter().any(|(path, content)| own(path) && content.mentions) {
            return None;
        }
        let texts = files
            .into_iter()
            .map(|(path, content)| (path.to_string_lossy().into_owned(), content.text))
            .collect();
        let output = late.join(format!("{name}.d")).join(output_name(&found.files));
        Some(Self {
            name: name.to_owned(),
            texts,
            output,
            kind,
            found,
        })
    }

    fn judge(&self, user: bool) -> Judgement {
        let mut sources = Vec::new();
        for (path, text) in &self.texts {
            match text {
                Some(text) => sources.push(Source { path, text }),
                None => {
                    return Judgement::Refuse(format!(
                        "{path} cannot be read, is longer than {MAX_FILE} bytes, or is not UTF-8"
                    ));
                }
            }
        }
        let judged = dropin::judge(&sources);
        if judged == Judgement::Leave {
            return judged;
        }
        if user {
            return Judgement::Refuse("units of a user manager cannot be wrapped".into());
        }
        match (self.kind, &self.found.unclear) {
            (Kind::Other, _) => Judgement::Refuse(format!("only services can have a section [{SECTION}]")),
            (Kind::Prefix, _) => Judgement::Refuse(
                "it opted in by a drop-in for a name prefix, but its unit file was not there when generators ran; run `systemctl daemon-reload`"
                    .into(),
            ),
            (_, Some(name)) => Judgement::Refuse(format!("it has several drop-ins called {name}; rename all but one")),
            _ if !self.found.fragment => Judgement::Refuse(
                "its unit file was not there when generators ran; run `systemctl daemon-reload` (units made by another generator cannot opt in)"
                    .into(),
            ),
            _ => judged,
        }
    }

    fn refusal(&self, why: &str) -> String {
        if self.kind == Kind::Other {
            dropin::refusing_other()
        } else {
            dropin::refusing(why)
        }
    }
}

/// What is known of a unit's file; nothing, when it cannot be read.
#[derive(Default)]
struct Content {
    /// It has our section's name in it.
    mentions: bool,
    /// Its text, if it can be judged.
    text: Option<String>,
}

/// Nothing but regular files is read: a pipe would hold up the boot.
fn read(path: &Path) -> io::Result<Content> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    let mut mentioned = false;
    let mut first = true;
    loop {
        let read = file.by_ref().take(MAX_FILE).read_to_end(&mut bytes)?;
        mentioned |= mentions(&bytes);
        if first && (read as u64) < MAX_FILE {
            let text = String::from_utf8(bytes).ok();
            return Ok(Content {
                mentions: mentioned,
                text,
            });
        }
        if read == 0 {
            return Ok(Content {
                mentions: mentioned,
                text: None,
            });
        }
        first = false;
        // The end of each part is kept, so that no mention falls between two.
        bytes.drain(..bytes.len() - SECTION.len());
    }
}

/// No false negatives: a section header cannot be written without this word.
fn mentions(bytes: &[u8]) -> bool {
    bytes
        .windows(SECTION.len())
        .any(|w| w.eq_ignore_ascii_case(SECTION.as_bytes()))
}

/// A name that sorts behind every drop-in of the unit: the last one decides.
fn output_name(files: &[PathBuf]) -> String {
    let last = files
        .iter()
        .filter_map(|f| f.file_name())
        .filter(|n| n.as_encoded_bytes().ends_with(b".conf"))
        .max();
    match last {
        Some(last) if last.as_encoded_bytes() >= NAME.as_bytes() => format!("{}~rempart.conf", last.to_string_lossy()),
        _ => NAME.to_owned(),
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
        assert!(made.success() && read(&pipe).is_err());
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
