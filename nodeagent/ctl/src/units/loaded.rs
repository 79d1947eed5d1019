//! What systemd has loaded, and what generators wrote for it, against what the files say now.
//!
//! Asks only for units that are loaded already: looking must not load anything.

use std::{fs, path::Path};

use rempart_api::path::WRAP;
use rempart_rewrite::{Candidate, Judgement};
use zbus::Connection;

use super::validate::Finding;
use crate::systemd::{Exec, Loaded, ManagerProxy};

/// Where systemd has generators write what comes last.
pub const LATE: &str = "/run/systemd/generator.late";
const RELOAD: &str = "run systemctl daemon-reload";

/// Units whose generated drop-in below `late` is not what their files ask for now.
pub fn generated(late: &Path, candidates: &[(Candidate, Judgement)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (candidate, judgement) in candidates {
        let Judgement::Wrap(wanted) = judgement else { continue };
        let there = fs::read_to_string(late.join(candidate.output())).ok();
        if there.as_deref() != Some(wanted.as_str()) {
            let what = match there {
                None => "it opted in, and systemd would start it without the wrapper",
                Some(_) => "its files have changed since generators ran",
            };
            findings.push(Finding::of_unit(candidate.name(), what, RELOAD));
        }
    }
    for entry in fs::read_dir(late).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".d")) else {
            continue;
        };
        let opted_in = candidates
            .iter()
            .any(|(candidate, judgement)| candidate.name() == unit && *judgement != Judgement::Leave);
        if !opted_in && ours(&entry.path()) {
            let what = "its files do not opt in any more, and systemd starts it with the wrapper";
            findings.push(Finding::of_unit(unit, what, RELOAD));
        }
    }
    findings
}

/// Whether a drop-in that wraps is in `folder`.
fn ours(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_name().as_encoded_bytes().ends_with(b"rempart.conf"))
        .any(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains("\nExecStart=")))
}

/// Units that systemd has loaded otherwise than their files say.
pub async fn loaded(bus: &Connection, candidates: &[(Candidate, Judgement)]) -> zbus::Result<Vec<Finding>> {
    let manager = ManagerProxy::new(bus).await?;
    let mut findings = Vec::new();
    for (candidate, judgement) in candidates {
        let path = match manager.get_unit(candidate.name()).await {
            Ok(path) => path,
            // Not loaded, or a template.
            Err(zbus::Error::MethodError(..)) => continue,
            Err(error) => return Err(error),
        };
        let Ok(unit) = Loaded::of(bus, &path).await else {
            // No service.
            continue;
        };
        let commands: Vec<Exec> = unit.property("ExecStart")?;
        let wrapped = !commands.is_empty() && commands.iter().all(|command| command.0 == WRAP);
        let what = if unit.property("NeedDaemonReload")? {
            "systemd has loaded it from other files than are there now"
        } else if matches!(judgement, Judgement::Wrap(_)) && !wrapped {
            "it opted in, and systemd has loaded it without the wrapper"
        } else {
            continue;
        };
        findings.push(Finding::of_unit(candidate.name(), what, RELOAD));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use rempart_rewrite::Units;

    use super::*;

    #[test]
    fn what_generators_wrote_is_compared_with_what_the_files_say() {
        let root = tempfile::tempdir().expect("dir");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("file");
        };
        write("etc/a.service", "[X-Rempart]\nWrap=yes\n[Service]\nExecStart=/bin/a\n");
        let judged = || {
            let candidates = Candidate::all(&Units::read(&[root.path().join("etc")])).into_iter();
            candidates
                .map(|candidate| {
                    let judgement = candidate.judge(false);
                    (candidate, judgement)
                })
                .collect::<Vec<_>>()
        };
        let late = root.path().join("late");
        let lines = || {
            let findings = generated(&late, &judged()).into_iter();
            findings.map(|finding| finding.what).collect::<Vec<_>>().join("; ")
        };
        assert!(lines().contains("without the wrapper"));
        let Judgement::Wrap(text) = &judged()[0].1 else {
            panic!()
        };
        write("late/a.service.d/zzzz-rempart.conf", text);
        assert_eq!(lines(), "");
        write("etc/a.service", "[X-Rempart]\nWrap=yes\n[Service]\nExecStart=/bin/b\n");
        assert!(lines().contains("have changed"));
        write("etc/a.service", "[Service]\nExecStart=/bin/b\n");
        assert!(lines().contains("not opt in any more"));
    }
}
