//! `rempart run --role R … -- COMMAND`: a command as a transient unit with the caller's descriptors.
//!
//! Must never start the command itself: it starts through the wrapper, and the agent refuses roles that `[run] roles` of its
//! configuration does not name.

use std::{
    fs::{self, DirBuilder},
    io::{self, IsTerminal},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use rempart_api::{agent::RUN_UNIT, path::WRAP};
use rempart_core::unitfile::Source;
use rempart_rewrite::{Judgement, judge};
use zbus::zvariant::{Fd, Value};

use super::{Own, follow::Started};
use crate::{
    failure::Failure,
    systemd::{self, ManagerProxy, Wanted, failed},
    units::section::line,
};

/// Where drop-ins of this boot belong.
const RUNTIME: &str = "/run/systemd/system";
/// Where a reload leaves what generators made of an earlier command of the same name.
const LATE: &str = "/run/systemd/generator.late";
/// Commands of one role at a time. Names are used again: the guard has room for so many in a boot.
const PLACES: usize = 64;

/// Starts it, and ends as it ends.
pub async fn run(bus: Option<&str>, own: &Own) -> Result<ExitCode, Failure> {
    let text = drop_in(own)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let here = std::env::current_dir().map_err(|error| Failure::Machine(format!("this folder: {error}")))?;
    let command = command(&own.command, &path, &here)?;
    let environment = environment(&own.setenv, io::stdin().is_terminal(), |name| std::env::var(name).ok())?;

    let bus = systemd::connect(bus).await.map_err(failed)?;
    let manager = ManagerProxy::new(&bus).await.map_err(failed)?;
    manager.subscribe().await.map_err(failed)?;
    let role = own.section.role.as_deref().unwrap_or_default();
    let place = Place::take(Path::new(RUNTIME), Path::new(LATE), role)?;
    let (folder, name) = (place.folder.clone(), place.unit.clone());
    fs::write(folder.join("50-rempart.conf"), text).map_err(|error| unusable(&folder, &error))?;

    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let mut wanted: Wanted<'_> = vec![
        ("Description", Value::from(format!("rempart run {}", own.command[0]))),
        ("Type", Value::from("exec")),
        ("AddRef", Value::from(true)),
        ("CollectMode", Value::from("inactive-or-failed")),
        ("ExecStartEx", Value::from(vec![(WRAP, command, vec!["no-env-expand"])])),
        ("Environment", Value::from(environment)),
        ("StandardInputFileDescriptor", Value::from(Fd::from(input.as_fd()))),
        ("StandardOutputFileDescriptor", Value::from(Fd::from(output.as_fd()))),
        ("StandardErrorFileDescriptor", Value::from(Fd::from(errors.as_fd()))),
    ];
    if own.same_dir {
        let here = here
            .to_str()
            .ok_or_else(|| Failure::Machine("this folder's name is not UTF-8".to_owned()))?;
        wanted.push(("WorkingDirectory", Value::from(here)));
    }
    let jobs = manager.receive_job_removed().await.map_err(failed)?;
    let job = manager
        .start_transient_unit(&name, "fail", &wanted, &[])
        .await
        .map_err(failed)?;
    let path = manager.get_unit(&name).await.map_err(failed)?;
    let started = Started {
        bus: &bus,
        manager: &manager,
        name: &name,
        path,
        job,
        jobs,
        before: Vec::new(),
    };
    let ended = started.follow().await;
    drop(place);
    ended
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let root = if error.kind() == io::ErrorKind::PermissionDenied {
        "; run this as root"
    } else {
        ""
    };
    Failure::Machine(format!("{}: {error}{root}", path.display()))
}

/// A name that is free, and its folder of drop-ins, which goes with the value.
struct Place {
    folder: PathBuf,
    unit: String,
}

impl Place {
    fn take(runtime: &Path, late: &Path, role: &str) -> Result<Self, Failure> {
        for number in 0..PLACES {
            let unit = format!("{RUN_UNIT}{role}-{number}.service");
            let folder = runtime.join(format!("{unit}.d"));
            if late.join(format!("{unit}.d")).exists() {
                continue;
            }
            // Making the folder takes the name: only one can.
            match DirBuilder::new().mode(0o755).create(&folder) {
                Ok(()) => {
                    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
                        .map_err(|error| unusable(&folder, &error))?;
                    return Ok(Self { folder, unit });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&folder, &error)),
            }
        }
        Err(Failure::Machine(format!(
            "{PLACES} commands of the role {role} run, or were left by ones that were killed; see: systemctl list-units '{RUN_UNIT}*', then remove {}/{RUN_UNIT}{role}-*.service.d",
            runtime.display()
        )))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The unit's section and settings, and what the generator would add for them.
fn drop_in(own: &Own) -> Result<String, Failure> {
    let mut text = format!("# Written by `rempart run`.\n{}\n[Service]\n", own.section.text()?);
    if let Some(user) = &own.uid {
        text.push_str(&line("User", user)?);
    }
    for property in &own.property {
        let wrong = |why: &str| Failure::Unit {
            unit: format!("--property {}", property.split('=').next().unwrap_or_default()),
            why: why.to_owned(),
        };
        let (key, value) = property.split_once('=').ok_or_else(|| wrong("it must be KEY=VALUE"))?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(wrong("this is no name of a setting"));
        }
        if key.starts_with("Exec") || key.starts_with("Standard") {
            return Err(wrong("the command and its streams are those of `rempart run`"));
        }
        text.push_str(&line(key, value)?);
    }
    let files = [
        Source {
            path: "--property",
            text: &text,
        },
        Source {
            path: "the command",
            text: "[Service]\nExecStart=/bin/true\n",
        },
    ];
    let added = match judge(&files) {
        Judgement::Wrap(added) => added,
        Judgement::Refuse(defect) => {
            return Err(Failure::Unit {
                unit: "the command".to_owned(),
                why: format!("{}; {}", defect.what(), defect.remedy()),
            });
        }
        Judgement::Leave => {
            return Err(Failure::Machine(
                "a section was written that does not opt in".to_owned(),
            ));
        }
    };
    let own_command = |line: &&str| !line.starts_with("ExecStart=") && !line.starts_with('#');
    for added in added.lines().filter(own_command) {
        text.push_str(added);
        text.push('\n');
    }
    Ok(text)
}

/// The wrapper's arguments: the program by its absolute path, as the wrapper wants it.
fn command(given: &[String], path: &str, here: &Path) -> Result<Vec<String>, Failure> {
    let (program, arguments) = given
        .split_first()
        .ok_or_else(|| Failure::Machine("no command".to_owned()))?;
    let found = if program.contains('/') {
        Some(here.join(program)).filter(|file| file.is_file())
    } else {
        let folders = path.split(':').filter(|folder| folder.starts_with('/'));
        folders
            .map(|folder| Path::new(folder).join(program))
            .find(|file| executable(file))
    };
    let missing = || Failure::Input {
        path: program.clone(),
        why: "there is no such program; give its path".to_owned(),
    };
    let found = found.as_deref().and_then(Path::to_str).ok_or_else(missing)?;
    let mut command = vec![WRAP.to_owned(), "--".to_owned(), found.to_owned()];
    command.extend(arguments.iter().cloned());
    Ok(command)
}

fn executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
}

/// As systemd-run(1) has it: what was asked for, and the terminal's kind.
fn environment(
    asked: &[String],
    terminal: bool,
    ours: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Failure> {
    let term = terminal.then(|| ours("TERM")).flatten();
    let mut environment: Vec<String> = term.map(|term| format!("TERM={term}")).into_iter().collect();
    for variable in asked {
        environment.push(match (variable.contains('='), ours(variable)) {
            (true, _) => variable.clone(),
            (false, Some(value)) => format!("{variable}={value}"),
            (false, None) => {
                return Err(Failure::Unit {
                    unit: format!("--setenv {variable}"),
                    why: "it is not set here; give it a value".to_owned(),
                });
            }
        });
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::section::Section;

    fn own(property: &[&str]) -> Own {
        Own {
            section: Section {
                role: Some("ops".into()),
                secrets: vec!["PW=kv/ops#pw".into()],
                ..Section::default()
            },
            uid: Some("nobody".into()),
            property: property.iter().map(|&text| text.to_owned()).collect(),
            setenv: Vec::new(),
            same_dir: false,
            command: vec!["true".into()],
        }
    }

    #[test]
    fn a_command_gets_what_the_generator_would_add_and_waits_for_the_node() {
        let text = drop_in(&own(&["MemoryMax=64M", "SystemCallFilter=@system-service"])).expect("valid");
        for line in [
            "[X-Rempart]",
            "Role=ops",
            "Secret=PW=kv/ops#pw",
            "User=nobody",
            "MemoryMax=64M",
            "Requires=rempart-unlocked.target",
            "LimitCORE=1",
            "UnsetEnvironment=LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH GLIBC_TUNABLES",
            "SystemCallFilter=memfd_secret",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
        }
        assert!(!text.contains("ExecStart"));
    }

    #[test]
    fn settings_that_are_not_the_callers_are_refused() {
        for (property, why) in [
            ("ExecStart=/bin/a", "those of `rempart run`"),
            ("ExecStartPre=/bin/a", "those of `rempart run`"),
            ("StandardOutput=journal", "those of `rempart run`"),
            ("RootDirectory=/x", "wrapper is not in there"),
            ("User", "KEY=VALUE"),
            ("[Unit]=x", "no name of a setting"),
            ("Nice=1\nExecStart=/bin/a", "control character"),
        ] {
            let line = drop_in(&own(&[property])).expect_err(property).to_string();
            assert!(line.contains(why), "{line}");
        }
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let folder = tempfile::tempdir().expect("dir");
        let tool = folder.path().join("tool");
        fs::write(&tool, "").expect("file");
        let path = format!("relative:/nonexistent:{}", folder.path().display());
        let find = |program: &str| command(&[program.to_owned(), "$A".to_owned()], &path, folder.path());
        assert!(find("tool").is_err(), "not executable");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("mode");
        assert_eq!(
            find("tool").expect("found")[1..],
            ["--", tool.to_str().expect("text"), "$A"]
        );
        assert!(find("./tool").is_ok() && find("./none").is_err());
    }

    #[test]
    fn names_are_used_again_and_never_one_that_a_reload_left_something_for() {
        let folder = tempfile::tempdir().expect("dir");
        let (runtime, late) = (folder.path().join("run"), folder.path().join("late"));
        fs::create_dir_all(&runtime).expect("dir");
        fs::create_dir_all(late.join("rempart-run-ops-0.service.d")).expect("dir");
        let take = || Place::take(&runtime, &late, "ops").expect("free");
        let first = take();
        assert_eq!(first.unit, "rempart-run-ops-1.service");
        assert_eq!(take().unit, "rempart-run-ops-2.service");
        drop(first);
        assert_eq!(take().unit, "rempart-run-ops-1.service");
        let all: Vec<_> = (0..PLACES - 1).map(|_| take()).collect();
        assert!(Place::take(&runtime, &late, "ops").is_err(), "{} are taken", all.len());
    }

    #[test]
    fn the_environment_is_what_was_asked_for() {
        let ours = |name: &str| (name == "TERM" || name == "A").then(|| "here".to_owned());
        let asked = ["A".to_owned(), "B=2".to_owned()];
        assert_eq!(
            environment(&asked, true, ours).expect("set"),
            ["TERM=here", "A=here", "B=2"]
        );
        assert!(environment(&["C".to_owned()], false, ours).is_err());
        assert!(environment(&[], false, ours).expect("none").is_empty());
    }
}
