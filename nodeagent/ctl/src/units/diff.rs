//! `rempart diff`: a unit's commands as written against as systemd will run them, in the form of a unified diff.
//!
//! Reads files only: nothing is loaded, reloaded or started.

use std::{fmt::Write, process::ExitCode};

use rempart_api::exit;
use rempart_rewrite::{Candidate, Command, Defect, Judgement, Scope, Units, commands};

use super::ServiceName;
use crate::{failure::Failure, talk::one_line};

/// `diff`.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The service, or a template of services.
    unit: ServiceName,
}

/// Exit 0 when it starts as shown, EX_CONFIG when it is refused.
pub fn diff(told: &Diff) -> Result<ExitCode, Failure> {
    let units = Units::read(&Scope::from_environment().folders);
    let name = units.resolve(told.unit.as_str()).to_owned();
    let Some(candidate) = Candidate::of(&units, &name) else {
        if !units.files(&name).fragment {
            return Err(Failure::NoUnit(name));
        }
        println!("{name} has not opted in: systemd runs it as written; see: rempart wrap --help");
        return Ok(ExitCode::SUCCESS);
    };
    match candidate.judge(false) {
        Judgement::Leave => {
            println!("{name} has not opted in (Wrap=no): systemd runs it as written");
            Ok(ExitCode::SUCCESS)
        }
        Judgement::Wrap(text) => {
            let written = candidate
                .sources()
                .and_then(|sources| commands(&sources))
                .map_err(|defect| refused(&name, &defect))?;
            print!("{}", unified(&name, &written, &text));
            Ok(ExitCode::SUCCESS)
        }
        Judgement::Refuse(Defect::NoFragment) => Err(Failure::NoUnit(name)),
        Judgement::Refuse(defect) => {
            refused(&name, &defect).report();
            Ok(ExitCode::from(exit::CONFIG))
        }
    }
}

fn refused(name: &str, defect: &Defect) -> Failure {
    let place = match defect.place() {
        Some((file, Some(line))) => format!("{file}:{line}: "),
        Some((file, None)) => format!("{file}: "),
        None => String::new(),
    };
    Failure::Unit {
        unit: name.to_owned(),
        why: format!(
            "systemd will refuse to start it: {place}{}; {}",
            defect.what(),
            defect.remedy()
        ),
    }
}

/// `text` is the generator's drop-in: its lines are added, and each command stands beside the one that it replaces.
fn unified(name: &str, written: &[Command], text: &str) -> String {
    let mut out = format!("--- {name} as written\n+++ {name} as systemd will run it\n");
    let mut commands = written.iter();
    let mut file = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            let _ = writeln!(out, " {line}");
        } else if let Some(wrapped) = line.strip_prefix("ExecStart=") {
            // The line that resets the list.
            if wrapped.is_empty() {
                continue;
            }
            if let Some(command) = commands.next() {
                if command.file != file {
                    file = &command.file;
                    let _ = writeln!(out, "@@ {}:{} @@", one_line(file), command.line);
                }
                let _ = writeln!(out, "-ExecStart={}", one_line(&command.written));
            }
            let _ = writeln!(out, "+ExecStart={}", one_line(wrapped));
        } else {
            let _ = writeln!(out, "+{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_stands_beside_the_one_that_replaces_it() {
        let command = |file: &str, line, written: &str| Command {
            file: file.into(),
            line,
            written: written.into(),
            wrapped: format!("W -- {written}"),
        };
        let written = [
            command("/etc/a.service", 3, "/bin/a x"),
            command("/etc/a.service", 4, "/bin/b"),
        ];
        let text = "# ours\n[Unit]\nAfter=t\n\n[Service]\nLimitCORE=1\nExecStart=\nExecStart=W -- /bin/a x\nExecStart=W -- /bin/b\n";
        assert_eq!(
            unified("a.service", &written, text),
            "--- a.service as written\n+++ a.service as systemd will run it\n [Unit]\n+After=t\n [Service]\n+LimitCORE=1\n\
             @@ /etc/a.service:3 @@\n-ExecStart=/bin/a x\n+ExecStart=W -- /bin/a x\n-ExecStart=/bin/b\n+ExecStart=W -- /bin/b\n"
        );
    }
}
