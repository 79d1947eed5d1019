//! `rempart wrap` and `unwrap`: one drop-in, written whole or not at all, and removed only when it is ours.
//!
//! Must never write a drop-in under which the unit would not start, nor touch a file of another writer unasked.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::ExitCode,
};

use rempart_api::path::STDIO;
use rempart_rewrite::{Candidate, Defect, Judgement, Scope, Units};

use super::{ServiceName, section::Section};
use crate::{failure::Failure, whole::Beside};

/// The first line of what we write; a file without it is somebody else's.
const MARKER: &str = "# Written by `rempart wrap`; `rempart unwrap` removes it.\n";

/// `wrap`.
#[derive(Debug, clap::Args)]
pub struct Wrap {
    /// The service, or a template of services.
    unit: ServiceName,
    #[command(flatten)]
    section: Section,
    /// Standard input, output and error are those of `rempart run UNIT`, which is then the only way to start it.
    #[arg(long)]
    run: bool,
    /// Print the drop-in and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace the drop-in that is there, whoever wrote it.
    #[arg(long)]
    force: bool,
}

/// `unwrap`.
#[derive(Debug, clap::Args)]
pub struct Unwrap {
    /// The service, or a template of services.
    unit: ServiceName,
}

/// Writes the drop-in, if the unit would start with it.
pub fn wrap(told: &Wrap) -> Result<ExitCode, Failure> {
    let units = Units::read(&Scope::from_environment().folders);
    let unit: ServiceName = units
        .resolve(told.unit.as_str())
        .parse()
        .map_err(|error| Failure::Unit {
            unit: told.unit.to_string(),
            why: format!("it is an alias of a unit that cannot be wrapped: {error}"),
        })?;
    let text = drop_in(told)?;
    let path = unit.drop_in();
    judge(&units, &unit, &path, &text)?;
    if told.dry_run {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    match place(&path, &text, told.force)? {
        Placed::Written => println!("{} is written; next:", path.display()),
        Placed::SameAsBefore => println!("{} says so already; what is left to do:", path.display()),
    }
    println!("  systemctl daemon-reload    systemd takes it up; `rempart diff {unit}` shows what it will run");
    println!(
        "  reboot                     the agent gives secrets to units that had opted in when it first started in this boot;"
    );
    println!("                             until then {unit} is refused when it starts");
    if told.run {
        println!("  rempart run {unit}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the drop-in, if `rempart wrap` wrote it.
pub fn unwrap(told: &Unwrap) -> Result<ExitCode, Failure> {
    let units = Units::read(&Scope::from_environment().folders);
    // An alias of something else than a service has no drop-in of ours.
    let unit = units
        .resolve(told.unit.as_str())
        .parse()
        .unwrap_or_else(|_| told.unit.clone());
    let path = unit.drop_in();
    remove(&path)?;
    println!("{} is removed; next:", path.display());
    println!(
        "  systemctl daemon-reload && systemctl restart {unit}    it starts without the wrapper, and without its secrets"
    );
    let elsewhere = Candidate::all(&Units::read(&Scope::from_environment().folders))
        .into_iter()
        .find(|left| left.name() == unit.as_str() && left.judge(false) != Judgement::Leave);
    if elsewhere.is_some() {
        println!("  other files still opt it in: `rempart diff {unit}` shows what systemd will run");
    }
    Ok(ExitCode::SUCCESS)
}

fn drop_in(told: &Wrap) -> Result<String, Failure> {
    let mut text = format!("{MARKER}{}", told.section.text()?);
    if told.run {
        text.push_str("\n# Those of `rempart run`.\n[Service]\n");
        text.push_str(&format!("StandardInput=file:{STDIO}/%n/0\n"));
        text.push_str(&format!("StandardOutput=file:{STDIO}/%n/1\n"));
        text.push_str(&format!("StandardError=file:{STDIO}/%n/2\n"));
    }
    Ok(text)
}

/// Whether the unit would start with it.
fn judge(units: &Units, unit: &ServiceName, path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Unit {
        unit: unit.to_string(),
        why: format!("nothing is written: {why}"),
    };
    let planned = Candidate::planned(units, unit.as_str(), path, text).map_err(|other| {
        let name = other.display();
        wrong(format!(
            "there is another drop-in of that name, {name}, and systemd takes one of both; rename that one"
        ))
    })?;
    match planned.judge(false) {
        Judgement::Wrap(_) => Ok(()),
        Judgement::Leave => Err(wrong("a later drop-in says Wrap=no; remove that line first".to_owned())),
        Judgement::Refuse(Defect::NoFragment) => Err(Failure::NoUnit(unit.to_string())),
        Judgement::Refuse(defect) => Err(wrong(match defect.place() {
            Some(_) => format!("it would not start: {defect}; {}", defect.remedy()),
            None => format!("it would not start: {}; {}", defect.what(), defect.remedy()),
        })),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Placed {
    Written,
    SameAsBefore,
}

fn place(path: &Path, text: &str, force: bool) -> Result<Placed, Failure> {
    let fail = |error: std::io::Error| failed(path, &error);
    match fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(Placed::SameAsBefore),
        Ok(_) if force => {}
        Ok(there) => {
            let whose = if there.starts_with(MARKER) {
                "it says something else already"
            } else {
                "it is there, and `rempart wrap` did not write it"
            };
            let why = format!("{whose}; look at it, then give --force to replace it");
            return Err(Failure::Unit {
                unit: path.display().to_string(),
                why,
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // Not text, a folder, not readable: not ours.
        Err(_) if force && path.is_file() => {}
        Err(error) => return Err(fail(error)),
    }
    let folder = path.parent().unwrap_or(path);
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(fail)?;
    // The agent reads it too.
    if let Err(error) = Beside::write(path, text.as_bytes(), 0o644).and_then(Beside::place) {
        if made {
            let _ = fs::remove_dir(folder);
        }
        return Err(fail(error));
    }
    if made {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(fail)?;
    }
    Ok(Placed::Written)
}

fn remove(path: &Path) -> Result<(), Failure> {
    let there = match fs::read_to_string(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::Unit {
                unit: path.display().to_string(),
                why: "it is not there: `rempart wrap` has not wrapped this unit".to_owned(),
            });
        }
        Err(error) => return Err(failed(path, &error)),
    };
    if !there.starts_with(MARKER) {
        return Err(Failure::Unit {
            unit: path.display().to_string(),
            why: "`rempart wrap` did not write it, so it stays; remove it by hand".to_owned(),
        });
    }
    fs::remove_file(path).map_err(|error| failed(path, &error))?;
    // Only when nothing else is in it.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let root = if error.kind() == ErrorKind::PermissionDenied {
        "; run this as root"
    } else {
        ""
    };
    Failure::Machine(format!("{}: {error}{root}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const UNIT: &str = "[Service]\nExecStart=/bin/a\n";

    fn told(run: bool) -> Wrap {
        Wrap {
            unit: "a".parse().expect("a name"),
            section: Section::default(),
            run,
            dry_run: false,
            force: false,
        }
    }

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Units, PathBuf) {
        let root = tempfile::tempdir().expect("dir");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("file");
        }
        let units = Units::read(&[root.path().to_owned()]);
        let path = root.path().join("a.service.d/50-rempart.conf");
        (root, units, path)
    }

    #[test]
    fn what_we_wrote_is_ours_to_change_and_remove_and_nothing_else_is() {
        let (root, _, path) = machine(&[]);
        let first = drop_in(&told(false)).expect("text");
        assert_eq!(place(&path, &first, false).expect("written"), Placed::Written);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
        assert_eq!(place(&path, &first, false).expect("the same"), Placed::SameAsBefore);
        let other = drop_in(&told(true)).expect("text");
        let refused = place(&path, &other, false).expect_err("differs").to_string();
        assert!(
            refused.contains("something else already") && refused.contains("--force"),
            "{refused}"
        );
        assert_eq!(fs::read_to_string(&path).expect("there"), first);
        assert_eq!(place(&path, &other, true).expect("forced"), Placed::Written);
        remove(&path).expect("ours");
        assert!(!root.path().join("a.service.d").exists(), "the empty folder goes too");
        let gone = remove(&path).expect_err("not there").to_string();
        assert!(gone.contains("has not wrapped"), "{gone}");

        fs::create_dir(root.path().join("a.service.d")).expect("dir");
        fs::write(&path, "[X-Rempart]\nWrap=yes\n").expect("by hand");
        let refused = remove(&path).expect_err("not ours").to_string();
        assert!(refused.contains("did not write it"), "{refused}");
        let refused = place(&path, &first, false).expect_err("not ours").to_string();
        assert!(refused.contains("did not write it"), "{refused}");
        let left: Vec<_> = fs::read_dir(root.path().join("a.service.d")).expect("dir").collect();
        assert_eq!(left.len(), 1, "nothing half-written is left");
    }

    #[test]
    fn a_drop_in_under_which_the_unit_would_not_start_is_not_written() {
        let name: ServiceName = "a".parse().expect("a name");
        let text = drop_in(&told(false)).expect("text");
        let refused = |files: &[(&str, &str)]| {
            let (_root, units, path) = machine(files);
            judge(&units, &name, &path, &text).map_err(|failure| failure.to_string())
        };
        assert_eq!(refused(&[("a.service", UNIT)]), Ok(()));
        for (files, why) in [
            (vec![], "there is no unit file"),
            (
                vec![("a.service", "[Service]\nExecStart=/bin/$X\n")],
                "a.service:2: ExecStart=: there is a `$`",
            ),
            (
                vec![("a.service", "[Service]\nExecStart=/bin/a\nRootDirectory=/x\n")],
                "remove RootDirectory= or Wrap=yes",
            ),
            (
                vec![("a.service", UNIT), ("a.service.d/90.conf", "[X-Rempart]\nWrap=no\n")],
                "later drop-in says Wrap=no",
            ),
            (
                vec![("a.service", UNIT), ("a.service.d/90.conf", "[X-Rempart]\nRoll=x\n")],
                "90.conf:2: unknown key Roll",
            ),
            (
                vec![("a.service", UNIT), ("service.d/50-rempart.conf", "[Service]\n")],
                "another drop-in of that name",
            ),
        ] {
            let line = refused(&files).expect_err(why);
            assert!(line.contains(why), "{line}");
        }
    }

    #[test]
    fn a_unit_for_run_has_its_streams_where_run_puts_them() {
        let text = drop_in(&told(true)).expect("text");
        assert!(
            text.starts_with(MARKER) && text.contains("\nStandardInput=file:/run/rempart-run/%n/0\n"),
            "{text}"
        );
        let (_root, units, path) = machine(&[("a.service", UNIT)]);
        judge(&units, &"a".parse().expect("a name"), &path, &text).expect("starts");
    }
}
