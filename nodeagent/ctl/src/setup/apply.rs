//! Carries a plan out: each file whole or not at all, the one that was there kept beside it.
//!
//! Must never write where [`super::plan`] did not say so.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use nix::unistd::geteuid;
use serde::Serialize;

use super::plan::{Step, There, What};
use crate::{doctor::observe::Machine, failure::Failure, whole::Beside};

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// The file has the text now.
    Written,
    /// It had it before.
    Same,
    /// The program has ended well.
    Ran,
    /// Nobody asked for it.
    Left,
}

/// Carries `step` out on `machine`. `check` judges a file that is written, at its place under another name, before it is put in place.
pub fn step(machine: &Machine, step: &Step, check: impl Fn(&Path) -> Result<(), Failure>) -> Result<Done, Failure> {
    match &step.what {
        What::File { there: There::Same, .. } => Ok(Done::Same),
        What::File {
            path,
            text,
            mode,
            there,
            ..
        } => {
            let path = machine.path(path);
            let keep = || match there {
                There::Different => keep(&path),
                There::Absent | There::Same => Ok(()),
            };
            place(&path, text, *mode, |beside| check(beside).and_then(|()| keep()))?;
            Ok(Done::Written)
        }
        What::Command { words } => run(words).map(|()| Done::Ran),
        What::Say => Ok(Done::Left),
    }
}

/// A copy beside it, by the time, that nothing reads.
fn keep(path: &Path) -> Result<(), Failure> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(match number {
            0 => format!(".{now}.bak"),
            number => format!(".{now}.{number}.bak"),
        });
        PathBuf::from(name)
    };
    let free = (0..100).map(name).find(|name| name.symlink_metadata().is_err());
    let copy = free.ok_or_else(|| Failure::Machine(format!("{}: too many copies beside it", path.display())))?;
    // The file itself under another name, and nothing that somebody has put there.
    fs::hard_link(path, &copy).map_err(|error| failed(&copy, &error))
}

/// Whoever else can change a folder can put another file, or a link, in the place of each file in it.
fn ours(folder: &Path) -> Result<(), Failure> {
    let known = fs::symlink_metadata(folder).map_err(|error| failed(folder, &error))?;
    let (uid, mode) = (known.uid(), known.mode());
    let own = uid == 0 || uid == geteuid().as_raw();
    if !known.is_dir() || !own || mode & 0o022 != 0 {
        return Err(Failure::Machine(format!(
            "{}: others can change this folder, or it is a link: name one that is yours alone",
            folder.display()
        )));
    }
    Ok(())
}

fn place(path: &Path, text: &str, mode: u32, check: impl Fn(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    ours(folder)?;
    let beside = Beside::write(path, text.as_bytes(), mode).map_err(|error| failed(path, &error))?;
    check(beside.path())?;
    beside.place().map_err(|error| failed(path, &error))?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(folder, &error))
}

fn run(words: &[String]) -> Result<(), Failure> {
    let line = words.join(" ");
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    // Standard output is ours: with --json it is one object.
    let ended = Command::new(program).args(arguments).stdout(std::io::stderr()).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Machine(format!(
            "{line}: {status}; the steps before it are done, run setup again"
        ))),
        Err(error) => Err(Failure::Machine(format!("{line}: {error}"))),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        // The guard's denial of a sealed file looks the same.
        ErrorKind::PermissionDenied => {
            "; run this as root; on a node that was unlocked in this boot also: rempart break-glass request --lift files"
        }
        _ => "",
    };
    Failure::Machine(format!("{}: {error}{what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::{super::plan::Part, *};

    fn file(path: &str, text: &str, there: Option<&str>) -> Step {
        Step::file(Part::Configuration, path.to_owned(), text.to_owned(), there, "a test")
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root.join("etc"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_is_kept_beside_and_the_same_again_is_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let machine = Machine::at(root.path());
        let write = |text: &str, there: Option<&str>| {
            step(&machine, &file("/etc/a.toml", text, there), |_| Ok(())).expect("done")
        };
        assert_eq!(write("one", None), Done::Written);
        assert_eq!(write("one", Some("one")), Done::Same);
        assert_eq!(names(root.path()), ["a.toml"]);
        fs::set_permissions(root.path().join("etc/a.toml"), Permissions::from_mode(0o600)).expect("mode");
        assert_eq!(write("two", Some("one")), Done::Written);
        assert_eq!(write("three", Some("two")), Done::Written);
        let names = names(root.path());
        assert_eq!(names.len(), 3, "{names:?}");
        let kept: Vec<String> = names
            .iter()
            .filter(|name| name.ends_with(".bak"))
            .map(|name| fs::read_to_string(root.path().join("etc").join(name)).expect("kept"))
            .collect();
        assert!(
            kept.contains(&"one".to_owned()) && kept.contains(&"two".to_owned()),
            "{kept:?}"
        );
        let mode = fs::metadata(root.path().join("etc/a.toml"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn a_file_that_is_refused_leaves_what_was_there() {
        let root = tempfile::tempdir().expect("a folder");
        let machine = Machine::at(root.path());
        fs::create_dir(root.path().join("etc")).expect("folder");
        let refuse = |_: &Path| Err(Failure::Usage("no".into()));
        assert!(step(&machine, &file("/etc/a.toml", "one", None), refuse).is_err());
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[test]
    fn a_program_that_fails_ends_the_work() {
        let command = |words: &[&str]| Step {
            part: Part::Services,
            why: String::new(),
            what: What::Command {
                words: words.iter().map(|word| (*word).to_owned()).collect(),
            },
        };
        let machine = Machine::at(Path::new("/nonexistent"));
        assert_eq!(
            step(&machine, &command(&["true"]), |_| Ok(())).expect("done"),
            Done::Ran
        );
        assert!(step(&machine, &command(&["false"]), |_| Ok(())).is_err());
        assert!(step(&machine, &command(&["/nonexistent/program"]), |_| Ok(())).is_err());
    }
}
