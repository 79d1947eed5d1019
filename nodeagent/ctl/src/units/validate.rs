//! `rempart validate`: what is wrong with the units that opted in, before systemd or the agent refuses them.
//!
//! Looks only. What cannot be looked at is told on standard error and is no finding: silence must never pass for content.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rempart_api::exit;
use rempart_core::unitfile::{Entry, OnRotate, OptIn, SECTION, Source, entries, read_opt_in};
use rempart_rewrite::{Candidate, Defect, Judgement, Kind, Scope, Units, mentioned_in};
use serde::Serialize;

use super::{
    ServiceName,
    loaded::{self, LATE},
};
use crate::{
    agent::{self, AgentProxy},
    failure::Failure,
    policy::print_json,
    systemd,
    talk::one_line,
};

/// `validate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Of a unit that cannot be wrapped the first defect is told. A finding in JSON has unit, what and do, and file and line where \
    a line is at fault. Exit status 0: nothing was found; 78: something."
)]
pub struct Validate {
    /// Services; all that opted in, when none is named.
    units: Vec<ServiceName>,
    /// As one JSON array.
    #[arg(long)]
    json: bool,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The unit.
    pub unit: String,
    /// The file, where one is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// One line.
    pub what: String,
    /// One line.
    #[serde(rename = "do")]
    pub remedy: String,
}

impl Finding {
    /// Of the unit as a whole.
    pub fn of_unit(unit: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            unit: unit.to_owned(),
            file: None,
            line: None,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn of(unit: &str, defect: &Defect) -> Self {
        let place = defect.place();
        Self {
            file: place.map(|(file, _)| file.to_owned()),
            line: place.and_then(|(_, line)| line),
            ..Self::of_unit(unit, defect.what(), defect.remedy())
        }
    }

    fn line(&self) -> String {
        let place = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            _ => String::new(),
        };
        one_line(&format!("{}: {place}{}; {}", self.unit, self.what, self.remedy))
    }
}

/// Exit 0 when all is well, EX_CONFIG otherwise.
pub async fn validate(bus: Option<&str>, told: &Validate) -> Result<ExitCode, Failure> {
    let units = Units::read(&Scope::from_environment().folders);
    let candidates = judged(candidates(&units, &told.units));
    let mut findings = refused(&candidates);
    findings.extend(cannot_reload(&candidates));
    if told.units.is_empty() {
        findings.extend(for_all_services(&units));
        findings.extend(of_users(&Scope::users().folders, &homes(&text("/etc/passwd"))));
    } else {
        findings.extend(asked(&units, &candidates, &told.units));
    }
    let mut skipped = Vec::new();
    let mut found = as_loaded(bus, &candidates, &mut skipped).await;
    if !told.units.is_empty() {
        let named = |finding: &Finding| {
            told.units
                .iter()
                .any(|name| units.resolve(name.as_str()) == finding.unit)
        };
        found.retain(named);
    }
    findings.extend(found);
    findings.extend(at_the_agent(bus, &candidates, Asked::Secrets, &mut skipped).await);
    findings.dedup();
    for what in skipped {
        eprintln!("rempart: not looked at: {}", one_line(&what));
    }
    let lent = to_systemd(&candidates);
    if !lent.is_empty() {
        eprintln!(
            "rempart: note: root can read the credentials of {} in /run/credentials while they run; where a program can do with a file of its own, :file is better",
            lent.join(", ")
        );
    }
    if told.json {
        print_json(&findings)?;
    } else {
        findings.iter().for_each(|finding| println!("{}", finding.line()));
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::CONFIG)
    })
}

/// What became of all units that opted in, for `rempart doctor`.
#[derive(Debug, Default)]
pub struct Survey {
    /// Units that will be wrapped.
    pub wrapped: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub skipped: Vec<String>,
}

/// The same looks as [`validate`]'s, but for the vault's.
pub async fn survey(bus: Option<&str>) -> Survey {
    let units = Units::read(&Scope::from_environment().folders);
    let candidates = judged(candidates(&units, &[]));
    let (mut findings, mut skipped) = (refused(&candidates), Vec::new());
    findings.extend(cannot_reload(&candidates));
    findings.extend(for_all_services(&units));
    findings.extend(as_loaded(bus, &candidates, &mut skipped).await);
    findings.extend(at_the_agent(bus, &candidates, Asked::Units, &mut skipped).await);
    findings.dedup();
    let wrapped = candidates.iter().filter(|judged| wrapped(judged).is_some());
    Survey {
        wrapped: wrapped.map(|(candidate, _)| candidate.name().to_owned()).collect(),
        findings,
        skipped,
    }
}

/// What each service that opted in asks for, for `rempart setup`.
pub fn opted_in(folders: &[PathBuf]) -> Vec<(String, OptIn)> {
    let judged = judged(Candidate::all(&Units::read(folders)));
    let services = judged.iter().filter_map(|judged| {
        let (_, opt_in) = wrapped(judged)?;
        Some((judged.0.name().to_owned(), opt_in))
    });
    services.collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn candidates(units: &Units, asked: &[ServiceName]) -> Vec<Candidate> {
    if asked.is_empty() {
        return Candidate::all(units);
    }
    let names: BTreeSet<&str> = asked.iter().map(|name| units.resolve(name.as_str())).collect();
    names
        .into_iter()
        .filter_map(|name| Candidate::of(units, name))
        .collect()
}

fn judged(candidates: Vec<Candidate>) -> Vec<(Candidate, Judgement)> {
    let judge = |candidate: Candidate| {
        let judgement = candidate.judge(false);
        (candidate, judgement)
    };
    candidates.into_iter().map(judge).collect()
}

/// Units that opted in and will not start.
fn refused(candidates: &[(Candidate, Judgement)]) -> Vec<Finding> {
    let refused = |(candidate, judgement): &(Candidate, Judgement)| {
        let defect = match (candidate.kind(), judgement) {
            // A prefix is no unit; only what its files say can be wrong.
            (Kind::Prefix, Judgement::Refuse(_)) => match candidate.sources().map(|sources| read_opt_in(&sources)) {
                Ok(Err(error)) => Defect::Section(error),
                Ok(Ok(_)) => return None,
                Err(defect) => defect,
            },
            (_, Judgement::Refuse(defect)) => defect.clone(),
            _ => return None,
        };
        Some(Finding::of(candidate.name(), &defect))
    };
    candidates.iter().filter_map(refused).collect()
}

/// Units that are to be reloaded for new secrets, and that systemd cannot reload.
fn cannot_reload(candidates: &[(Candidate, Judgement)]) -> Vec<Finding> {
    let found = |judged: &(Candidate, Judgement)| {
        let (candidate, (sources, opt_in)) = (&judged.0, wrapped(judged)?);
        (opt_in.on_rotate == OnRotate::Reload && !can_reload(&sources)).then(|| {
            Finding::of_unit(
                candidate.name(),
                "it says OnRotate=reload and has no ExecReload=, so it would not be told of new secrets",
                "add ExecReload=, or set OnRotate=signal:HUP or OnRotate=restart",
            )
        })
    };
    candidates.iter().filter_map(found).collect()
}

/// As systemd.service(5) has it: by `ExecReload=`, of which an empty one undoes those before, or by `Type=notify-reload`.
fn can_reload(sources: &[Source<'_>]) -> bool {
    let (mut by_command, mut by_type) = (false, false);
    for source in sources {
        let mut service = false;
        for entry in entries(source.text).unwrap_or_default() {
            match entry {
                Entry::Section { name, .. } => service = name == "Service",
                Entry::Assignment(set) if service && set.key == "ExecReload" => by_command = !set.value.is_empty(),
                Entry::Assignment(set) if service && set.key == "Type" => by_type = set.value == "notify-reload",
                _ => {}
            }
        }
    }
    by_command || by_type
}

/// Units with a secret that systemd itself puts into a file: allowed, and to be known.
fn to_systemd(candidates: &[(Candidate, Judgement)]) -> Vec<&str> {
    let lends = |judged: &&(Candidate, Judgement)| {
        wrapped(judged).is_some_and(|(_, opt_in)| opt_in.credentials().next().is_some())
    };
    let lent = candidates.iter().filter(lends);
    lent.map(|(candidate, _)| candidate.name()).collect()
}

/// What a unit that will be wrapped opted into, and its files.
fn wrapped((candidate, judgement): &(Candidate, Judgement)) -> Option<(Vec<Source<'_>>, OptIn)> {
    let Judgement::Wrap(_) = judgement else { return None };
    let sources = candidate.sources().ok()?;
    let opt_in = read_opt_in(&sources).ok()??;
    Some((sources, opt_in))
}

/// Drop-ins that would opt in every service, which is ignored.
fn for_all_services(units: &Units) -> Vec<Finding> {
    let files = units.for_all_services().into_iter().filter(|path| mentioned_in(path));
    files
        .map(|path| Finding {
            file: Some(path.display().to_string()),
            ..Finding::of_unit(
                "service.d",
                format!("[{SECTION}] cannot opt in all services at once, and is ignored here"),
                "give each service, or a name prefix, a drop-in",
            )
        })
        .collect()
}

/// Units of users: nothing can be wrapped there.
fn of_users(folders: &[PathBuf], homes: &[PathBuf]) -> Vec<Finding> {
    // Each home is another machine as far as units go.
    let one = |home: &PathBuf| vec![home.join(".config/systemd/user")];
    let places = std::iter::once(folders.to_vec()).chain(homes.iter().map(one));
    let opted_in = places.flat_map(|folders| Candidate::all(&Units::read(&folders)));
    let findings = opted_in.filter_map(|candidate| match candidate.judge(true) {
        Judgement::Refuse(defect) => Some(Finding::of(candidate.name(), &defect)),
        _ => None,
    });
    findings.collect()
}

/// The homes in the text of passwd(5) that have units.
fn homes(passwd: &str) -> Vec<PathBuf> {
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    let homes: BTreeSet<PathBuf> = passwd.lines().filter_map(home).collect();
    homes
        .into_iter()
        .filter(|home| home.is_absolute() && home.join(".config/systemd/user").is_dir())
        .collect()
}

/// Who names a unit expects that it opted in.
fn asked(units: &Units, candidates: &[(Candidate, Judgement)], names: &[ServiceName]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in names {
        let real = units.resolve(name.as_str());
        let judgement = candidates.iter().find(|(candidate, _)| candidate.name() == real);
        match judgement {
            Some((_, Judgement::Wrap(_) | Judgement::Refuse(_))) => {}
            _ if !units.files(real).fragment => findings.push(Finding::of(real, &Defect::NoFragment)),
            _ => findings.push(Finding::of_unit(
                real,
                "it has not opted in",
                format!("see: rempart wrap {real}"),
            )),
        }
    }
    findings
}

async fn as_loaded(
    bus: Option<&str>,
    candidates: &[(Candidate, Judgement)],
    skipped: &mut Vec<String>,
) -> Vec<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        skipped.push("what systemd has loaded: this machine was not booted with systemd".to_owned());
        return Vec::new();
    }
    let mut findings = loaded::generated(Path::new(LATE), candidates);
    let seen = async { loaded::loaded(&systemd::connect(bus).await?, candidates).await };
    match seen.await {
        Ok(found) => {
            // One line a unit: what to do is the same.
            let new = |finding: &Finding| !findings.iter().any(|other| other.unit == finding.unit);
            let found: Vec<_> = found.into_iter().filter(new).collect();
            findings.extend(found);
        }
        Err(error) => skipped.push(format!("what systemd has loaded: {error}")),
    }
    findings
}

/// What the agent is asked about a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Only whether it knows the unit as it is now.
    Units,
    /// And whether the vault gives its secrets, which takes the vault's time.
    Secrets,
}

/// Units to which the agent releases nothing, and secrets that it does not get.
async fn at_the_agent(
    bus: Option<&str>,
    candidates: &[(Candidate, Judgement)],
    asked: Asked,
    skipped: &mut Vec<String>,
) -> Vec<Finding> {
    let wrapped = |(candidate, judgement): &&(Candidate, Judgement)| {
        matches!(judgement, Judgement::Wrap(_)) && !candidate.name().ends_with("@.service")
    };
    let names: Vec<&str> = candidates
        .iter()
        .filter(wrapped)
        .map(|(candidate, _)| candidate.name())
        .collect();
    if candidates.is_empty() {
        return Vec::new();
    }
    let agent = match agent::connect(bus).await {
        Ok(agent) => agent,
        Err(failure) => {
            skipped.push(format!("what the agent has recorded, secrets and roles: {failure}"));
            return Vec::new();
        }
    };
    let mut findings = Vec::new();
    for name in names {
        match agent.check_unit(name).await {
            Ok(why) if why.is_empty() => {}
            Ok(why) => findings.push(not_given(
                name,
                why.strip_prefix(&format!("{name} ")).unwrap_or(&why),
                None,
            )),
            Err(error) => {
                skipped.push(format!("what the agent has recorded: {}", Failure::of_agent(error)));
                break;
            }
        }
    }
    if asked == Asked::Secrets {
        findings.extend(in_the_vault(&agent, candidates, skipped).await);
    }
    findings
}

/// Secrets that the agent does not get, asked under the unit's role. No value comes back.
async fn in_the_vault(
    agent: &AgentProxy<'_>,
    candidates: &[(Candidate, Judgement)],
    skipped: &mut Vec<String>,
) -> Vec<Finding> {
    let with_secrets = |judged: &(Candidate, Judgement)| -> Option<(String, OptIn, Vec<Place>)> {
        let (candidate, (sources, opt_in)) = (&judged.0, wrapped(judged)?);
        let places = opt_in
            .secrets
            .iter()
            .map(|spec| place(&sources, &spec.reference.to_string()));
        let places = places.collect();
        (!opt_in.secrets.is_empty()).then(|| (candidate.name().to_owned(), opt_in, places))
    };
    let wanted: Vec<_> = candidates.iter().filter_map(with_secrets).collect();
    let mut findings = Vec::new();
    for (unit, opt_in, places) in wanted {
        let references: Vec<String> = opt_in.secrets.iter().map(|spec| spec.reference.to_string()).collect();
        match agent
            .check_secrets(opt_in.role.as_deref().unwrap_or_default(), &references)
            .await
        {
            Ok(answers) => {
                let refused = answers.iter().zip(places).filter(|(why, _)| !why.is_empty());
                findings.extend(refused.map(|(why, place)| not_given(&unit, why, place)));
            }
            Err(error) => {
                skipped.push(format!("secrets and roles: {}", Failure::of_agent(error)));
                break;
            }
        }
    }
    findings
}

/// The agent's line says what and, behind a semicolon, what to do.
fn not_given(unit: &str, why: &str, place: Place) -> Finding {
    let (what, remedy) = why.split_once("; ").unwrap_or((why, "correct it here or at the vault"));
    Finding {
        file: place.as_ref().map(|(file, _)| file.clone()),
        line: place.map(|(_, line)| line),
        ..Finding::of_unit(unit, what, remedy)
    }
}

/// A file and a line.
type Place = Option<(String, usize)>;

/// Where `reference` is asked for; the last line counts.
fn place(sources: &[Source<'_>], reference: &str) -> Place {
    let mut found = None;
    for source in sources {
        for entry in entries(source.text).unwrap_or_default() {
            if let Entry::Assignment(assignment) = entry
                && assignment.section == SECTION
                && assignment.key == "Secret"
                && assignment
                    .value
                    .split_once('=')
                    .is_some_and(|(_, right)| right == reference)
            {
                found = Some((source.path.to_owned(), assignment.line));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_can_be_reloaded_by_a_command_or_by_its_type() {
        let can = |text: &str| can_reload(&[Source { path: "a", text }]);
        assert!(can("[Service]\nExecReload=/bin/kill -HUP $MAINPID\n"));
        assert!(can("[Service]\nType=notify-reload\n"));
        assert!(!can("[Service]\nExecReload=/bin/x\nExecReload=\n"));
        assert!(!can("[Unit]\nExecReload=/bin/x\n[Service]\nType=notify\n"));
    }

    const UNIT: &str = "[Service]\nExecStart=/bin/a\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("dir");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("file");
        }
        root
    }

    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        let root = tree(files);
        let units = Units::read(&[root.path().join("etc")]);
        let mut findings = refused(&judged(candidates(&units, &[])));
        findings.extend(for_all_services(&units));
        let folder = format!("{}/", root.path().display());
        findings
            .iter()
            .map(|finding| finding.line().replace(&folder, ""))
            .collect()
    }

    #[test]
    fn each_kind_of_defect_is_one_line_with_its_place_and_what_to_do() {
        assert!(
            lines(&[
                ("etc/a.service", UNIT),
                ("etc/a.service.d/r.conf", "[X-Rempart]\nWrap=yes\n")
            ])
            .is_empty()
        );
        for (files, line) in [
            (
                vec![
                    ("etc/a.service", UNIT),
                    ("etc/a.service.d/r.conf", "[X-Rempart]\nWrap=yes\nRoll=x\n"),
                ],
                "a.service: etc/a.service.d/r.conf:3: unknown key Roll in [X-Rempart]; correct this line",
            ),
            (
                vec![
                    ("etc/a.service", UNIT),
                    ("etc/a.service.d/r.conf", "[X-Rempart]\nWrap=yes\\"),
                ],
                "a.service: etc/a.service.d/r.conf:2: the last line ends in a backslash; correct this line",
            ),
            (
                vec![("etc/a.service", "[Service]\nExecStart=a\n[X-Rempart]\nWrap=yes\n")],
                "a.service: etc/a.service:2: ExecStart=: the program must be given by its absolute path; correct this line",
            ),
            (
                vec![("etc/a.service.d/r.conf", "[X-Rempart]\nWrap=yes\n")],
                "a.service: there is no unit file of this name, or it is masked; write the unit file, or remove the drop-in (units made by another generator cannot opt in)",
            ),
            (
                vec![(
                    "etc/a.service",
                    "[X-Rempart]\nWrap=yes\n[Service]\nRootImage=/x\nExecStart=/bin/a\n",
                )],
                "a.service: it has RootImage=, and the wrapper is not in there; remove RootImage= or Wrap=yes",
            ),
            (
                vec![("etc/a.socket", "[X-Rempart]\nWrap=yes\n")],
                "a.socket: only services can have a section [X-Rempart]; move the section to the service that it starts",
            ),
            (
                vec![("etc/a-.service.d/r.conf", "[X-Rempart]\nWarp=yes\n")],
                "a-.service: etc/a-.service.d/r.conf:2: unknown key Warp in [X-Rempart]; correct this line",
            ),
            (
                vec![("etc/service.d/r.conf", "[X-Rempart]\nWrap=yes\n")],
                "service.d: etc/service.d/r.conf: [X-Rempart] cannot opt in all services at once, and is ignored here; give each service, or a name prefix, a drop-in",
            ),
        ] {
            assert_eq!(lines(&files), [line]);
        }
    }

    #[test]
    fn credentials_are_no_finding_and_told_of() {
        let lent = "[X-Rempart]\nWrap=yes\nRole=a\nSecret=x:credential=kv/a#x\n";
        let files = [
            ("etc/a.service", UNIT),
            ("etc/a.service.d/r.conf", lent),
            ("etc/b.service", UNIT),
            ("etc/b.service.d/r.conf", "[X-Rempart]\nWrap=yes\n"),
        ];
        assert_eq!(lines(&files), Vec::<String>::new());
        let root = tree(&files);
        let candidates = judged(candidates(&Units::read(&[root.path().join("etc")]), &[]));
        assert_eq!(to_systemd(&candidates), ["a.service"]);
    }

    #[test]
    fn a_prefix_that_says_nothing_wrong_is_no_finding() {
        let files = [
            ("etc/a-.service.d/r.conf", "[X-Rempart]\nWrap=yes\n"),
            ("etc/a-b.service", UNIT),
        ];
        assert_eq!(lines(&files), Vec::<String>::new());
    }

    #[test]
    fn units_of_users_are_told_of_wherever_they_lie() {
        let unit = "[X-Rempart]\nWrap=yes\n[Service]\nExecStart=/bin/a\n";
        let root = tree(&[
            ("user/all.service", unit),
            ("home/.config/systemd/user/own.service", unit),
            ("user/b.service", UNIT),
        ]);
        let home = root.path().join("home");
        let passwd = format!(
            "a:x:1:1::{}:/bin/sh\nb:x:2:2::/nonexistent:/bin/sh\nc:x:3:3::relative:\nbroken\n",
            home.display()
        );
        assert_eq!(homes(&passwd), std::slice::from_ref(&home));
        let findings = of_users(&[root.path().join("user")], &homes(&passwd));
        let lines: Vec<_> = findings.iter().map(Finding::line).collect();
        let why = "units of a user manager cannot be wrapped; make it a unit of the system, with User=";
        assert_eq!(lines, [format!("all.service: {why}"), format!("own.service: {why}")]);
    }

    #[test]
    fn a_unit_that_is_named_must_be_there_and_have_opted_in() {
        let root = tree(&[("etc/a.service", UNIT)]);
        let units = Units::read(&[root.path().join("etc")]);
        let names = ["a", "b"].map(|name| name.parse::<ServiceName>().expect("a name"));
        let found = asked(&units, &judged(candidates(&units, &names)), &names);
        assert!(found[0].what.contains("not opted in") && found[1].what.contains("no unit file"));
    }

    #[test]
    fn a_reference_is_found_where_it_is_asked_for() {
        let sources = [
            Source {
                path: "1",
                text: "[X-Rempart]\nSecret=A=kv/a#b\n",
            },
            Source {
                path: "2",
                text: "[Service]\nSecret=A=kv/a#b\n[X-Rempart]\nSecret=\nSecret=A:file=kv/a#b\n",
            },
        ];
        assert_eq!(place(&sources, "kv/a#b"), Some(("2".to_owned(), 5)));
        assert_eq!(place(&sources, "kv/a#c"), None);
    }

    #[test]
    fn what_the_vault_refuses_stands_at_the_line_that_asks_for_it() {
        let finding = not_given(
            "a.service",
            "vault has no secret kv/a#b; put it there",
            Some(("r.conf".into(), 4)),
        );
        assert_eq!(
            finding.line(),
            "a.service: r.conf:4: vault has no secret kv/a#b; put it there"
        );
    }

    #[test]
    fn a_finding_has_the_documented_shape() {
        let finding = Finding {
            file: Some("/etc/a.conf".into()),
            line: Some(3),
            ..Finding::of_unit("a.service", "what", "do that")
        };
        let json = serde_json::to_string(&[finding]).expect("plain");
        assert_eq!(
            json,
            r#"[{"unit":"a.service","file":"/etc/a.conf","line":3,"what":"what","do":"do that"}]"#
        );
    }
}
