//! `rempart setup`: from an installed package to a node that can attest. Looks, asks, shows what it would do, and does what it was told to.
//!
//! Rempart's own configuration and the owner's files it writes when the operator says yes; packages, the kernel's command line and
//! services only with `--apply`. Must never replace a file unasked, nor write a configuration that the agent would refuse.

use std::{
    io::{BufRead, IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{SystemTime, UNIX_EPOCH},
};

use rempart_api::path::CONFIG;
use rempart_core::unitfile::is_role;
use rempart_rewrite::Scope;
use serde::Serialize;

use crate::{
    doctor::{
        check::Check,
        facts::Seen,
        observe::{Machine, certificates},
        prerequisites,
    },
    failure::Failure,
    talk::one_line,
    units::validate::opted_in,
};

/// From the command line, the configuration, or the terminal.
mod answers;
/// A plan carried out.
mod apply;
/// The kernel command line.
mod cmdline;
/// rempart.toml.
mod configuration;
/// Files for the owner of vault and Verifier.
mod owner;
/// What would be done.
mod plan;

use answers::{Answers, Before, Given, Terminal, gather};
use apply::Done;
use plan::{Distribution, Part, Step, There, What};

/// Where authorities of servers are copied to.
const FOLDER: &str = "/etc/rempart";
/// The agent's program, which judges a configuration to the last word.
const REMPARTD: &str = "/usr/lib/rempart/rempartd";
/// Format of the JSON object.
const VERSION: u32 = 1;

/// `setup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal it asks for what the command line does not say, shows what it would do, and asks before it does it. Elsewhere give \
    --yes or --dry-run. Exit status 0: done, or shown; 64: an answer is missing; 65: a certificate's file cannot be used; 77: the operator said \
    no; 78: a file is there that says something else, or the agent would not take the configuration."
)]
pub struct Setup {
    #[command(flatten)]
    given: Given,
    /// A role of this node beside those in the drop-ins of its units; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// What engine is mounted where: MOUNT=kv1, kv2, pki, transit, database or other. By default the first part of a reference is the
    /// mount, and the look of the rest says which engine: creds/, issue/, decrypt/, else kv2.
    #[arg(long = "engine", value_name = "MOUNT=KIND", value_parser = engine)]
    engines: Vec<owner::Engine>,
    /// Where the files for the owner of vault and Verifier are written.
    #[arg(long, value_name = "DIR", default_value = "rempart-owner")]
    owner_files: PathBuf,
    /// Ask nothing: write the configuration and the owner's files.
    #[arg(long)]
    yes: bool,
    /// Also change the machine: packages, the kernel's command line, services.
    #[arg(long)]
    apply: bool,
    /// With --yes: replace files that say something else; they are kept beside the new ones.
    #[arg(long, requires = "yes")]
    force: bool,
    /// Show what would be done, with the text of each file, and do nothing.
    #[arg(long, conflicts_with_all = ["yes", "apply"])]
    dry_run: bool,
    /// What was found and done as one JSON object; asks nothing.
    #[arg(long)]
    json: bool,
    /// The machine's files, elsewhere than / in tests; no program is run then.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

fn engine(text: &str) -> Result<owner::Engine, String> {
    text.parse()
}

#[derive(Serialize)]
struct Told<'a> {
    v: u32,
    machine: &'a [Check],
    steps: Vec<StepDone<'a>>,
}

#[derive(Serialize)]
struct StepDone<'a> {
    #[serde(flatten)]
    step: &'a Step,
    done: Done,
}

/// Looks, asks, shows, does.
pub fn run(told: &Setup) -> Result<ExitCode, Failure> {
    let may_ask = stdin().is_terminal() && !told.yes && !told.json;
    if !may_ask && !told.yes && !told.dry_run {
        return Err(Failure::Usage(
            "nobody can be asked here: give --yes to write the files, or --dry-run to see what would be done"
                .to_owned(),
        ));
    }
    if let Some(role) = told.roles.iter().find(|role| !is_role(role)) {
        return Err(Failure::Usage(format!("--role: {} is no role's name", one_line(role))));
    }
    let machine = Machine::at(&told.root);
    let (kernel, boot, tpm) = (machine.kernel(), machine.boot(), machine.tpm(machine.tpm_is_kept()));
    let checks = prerequisites(&kernel, &boot, &tpm);
    if !told.json {
        checks.iter().for_each(|check| println!("{}", check.lines()));
        println!();
    }
    let mut input = stdin().lock();
    let mut output = stdout();
    let mut terminal = Terminal {
        input: may_ask.then_some(&mut input as &mut dyn BufRead),
        output: &mut output,
    };
    let mut steps = plan::machine(&kernel, &boot, &tpm, &distribution(&machine));
    steps.extend(configured(&machine, told, &mut terminal)?);
    if !told.json {
        show(&steps, told.dry_run);
    }
    let changes = |part: Part| steps.iter().any(|step| step.part == part && is_change(step));
    let own = changes(Part::Configuration) || changes(Part::Owner);
    let whole = steps
        .iter()
        .any(|step| step.part.is_of_the_machine() && is_change(step));
    if told.yes && !told.force {
        unasked(&steps)?;
    }
    let (own, whole) = match told.dry_run {
        true => (false, false),
        false => {
            let own_agreed = own && terminal.agrees("Write the configuration and the owner's files?", true)?;
            let whole_agreed = whole && (told.apply || terminal.agrees("Change the machine as shown?", false)?);
            if own && !own_agreed {
                return Err(Failure::Refused("nothing is written: you said no".to_owned()));
            }
            (own_agreed, whole_agreed)
        }
    };
    let done = carry_out(&machine, told, &steps, own, whole)?;
    if told.json {
        let steps = steps.iter().zip(done).map(|(step, done)| StepDone { step, done });
        let told = Told {
            v: VERSION,
            machine: &checks,
            steps: steps.collect(),
        };
        println!("{}", serde_json::to_string(&told).map_err(Failure::AgentMalformed)?);
    } else if !told.dry_run {
        outcome(&steps, &done);
    }
    Ok(ExitCode::SUCCESS)
}

fn distribution(machine: &Machine) -> Distribution {
    let text = |path| machine.text(path).known().cloned();
    let text = text("/etc/os-release").or_else(|| text("/usr/lib/os-release"));
    text.map(|text| Distribution::parse(&text)).unwrap_or_default()
}

/// Steps of what the operator answers: authorities, configuration, services, the owner's files.
fn configured(machine: &Machine, told: &Setup, terminal: &mut Terminal<'_>) -> Result<Vec<Step>, Failure> {
    let hidden = |what: &str, why: &str| Failure::Machine(format!("{what}: {why}; run this as root"));
    let there = match machine.text(CONFIG) {
        Seen::Is(text) => Some(text),
        Seen::Absent => None,
        Seen::Hidden(why) => return Err(hidden(CONFIG, &why)),
    };
    let fragments = match machine.fragments() {
        Seen::Is(fragments) => fragments,
        Seen::Absent => Vec::new(),
        Seen::Hidden(why) => return Err(hidden("/etc/rempart/conf.d", &why)),
    };
    let before = match machine.settings() {
        Seen::Is(Ok(settings)) => Some(Before::of(settings, there.as_deref().unwrap_or_default())),
        _ => None,
    };
    let host = machine.text("/proc/sys/kernel/hostname");
    let host = host.known().map(|name| name.trim().to_owned()).unwrap_or_default();
    let mut answers = gather(&told.given, before.as_ref(), &host, terminal)?;
    let (mut steps, authority) = authorities(machine, &mut answers)?;
    let refused = |why: configuration::ConfigurationError| Failure::Unit {
        unit: CONFIG.to_owned(),
        why: why.to_string(),
    };
    let (text, _) = configuration::text(there.as_deref(), &fragments, &answers).map_err(refused)?;
    let why = "the agent's configuration; keys that were not asked for stay as they are";
    let file = Step::file(Part::Configuration, CONFIG.to_owned(), text, there.as_deref(), why);
    let changes = is_change(&file);
    steps.push(file);
    steps.extend(plan::services(changes));
    let folders: Vec<PathBuf> = match told.root == Path::new("/") {
        true => Scope::from_environment().folders,
        false => ["/etc/systemd/system", "/usr/lib/systemd/system"]
            .map(|folder| machine.path(folder))
            .to_vec(),
    };
    let needs = owner::needs(&opted_in(&folders), &told.roles);
    if needs.contains_key(owner::VERIFIERS_ROLE) {
        return Err(Failure::Unit {
            unit: format!("role {}", owner::VERIFIERS_ROLE),
            why: "this is the Verifier's own login at the vault; call the units' role otherwise".to_owned(),
        });
    }
    if needs.is_empty() {
        steps.push(Step::say(
            Part::Owner,
            "no unit of this machine has a role yet: opt services in (rempart wrap), or name roles (--role), and run setup again",
        ));
    }
    let files = owner::files(&answers, &needs, &told.engines, authority.as_deref());
    let folder = std::path::absolute(&told.owner_files)
        .map_err(|error| Failure::Machine(format!("{}: {error}", told.owner_files.display())))?;
    // It is the operator's, not the machine's.
    let now = |path: &str| std::fs::read_to_string(path).ok();
    let owner = plan::owner(files, &folder.display().to_string(), now);
    steps.extend(owner);
    if answers.vault.kind == answers::VaultKind::Tpm {
        steps.push(Step::say(
            Part::Owner,
            "seal each value here, once the agent runs: rempart seal set NAME --role ROLE",
        ));
    }
    Ok(steps)
}

/// Copies of what is not in /etc/rempart, whose places the answers then name; and by what the vault knows the Verifier.
fn authorities(machine: &Machine, answers: &mut Answers) -> Result<(Vec<Step>, Option<String>), Failure> {
    let mut steps = Vec::new();
    let mut of_verifier = None;
    let mut copied: Option<(String, String)> = None;
    let mut place = |given: &mut String, name: &str| -> Result<String, Failure> {
        let inside = Path::new(given.as_str()).starts_with(FOLDER);
        let text = match inside {
            true => machine.text(given),
            false => Seen::of(std::fs::read_to_string(given.as_str())),
        };
        let text = authority(given, text)?;
        match &copied {
            _ if inside => {}
            Some((source, path)) if source == given => given.clone_from(path),
            _ => {
                let path = format!("{FOLDER}/{name}");
                let there = machine.text(&path);
                let there = there.known().map(String::as_str);
                steps.push(Step::file(
                    Part::Configuration,
                    path.clone(),
                    text.clone(),
                    there,
                    "whom a server's certificate must be by",
                ));
                copied = Some((given.clone(), path.clone()));
                *given = path;
            }
        }
        Ok(text)
    };
    if let Some(verifier) = &mut answers.verifier {
        of_verifier = Some(place(&mut verifier.ca, "verifier-ca.pem")?);
    }
    if let Some(server) = &mut answers.vault.server {
        place(&mut server.ca, "vault-ca.pem")?;
    }
    Ok((steps, of_verifier))
}

/// A PEM file with certificates that are valid now.
fn authority(path: &str, text: Seen<String>) -> Result<String, Failure> {
    let input = |why: String| Failure::Input {
        path: one_line(path),
        why,
    };
    let text = match text {
        Seen::Is(text) => text,
        Seen::Absent => {
            return Err(input(
                "it is not there; name the authority's certificate, PEM".to_owned(),
            ));
        }
        Seen::Hidden(why) => return Err(input(why)),
    };
    let list = certificates(text.as_bytes()).map_err(input)?;
    if list.is_empty() {
        return Err(input("it holds no certificate".to_owned()));
    }
    if text.contains("PRIVATE KEY") {
        return Err(input("it holds a private key; give the certificate alone".to_owned()));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    match list.iter().find(|certificate| certificate.not_after < now) {
        Some(ended) => Err(input(format!(
            "{} has ended; get the next one",
            one_line(&ended.subject)
        ))),
        None => Ok(text),
    }
}

fn is_change(step: &Step) -> bool {
    match &step.what {
        What::File { there, .. } => *there != There::Same,
        What::Command { .. } => true,
        What::Say => false,
    }
}

/// With nobody to ask, nothing of another hand is replaced.
fn unasked(steps: &[Step]) -> Result<(), Failure> {
    let other = steps.iter().find_map(|step| match &step.what {
        What::File {
            path,
            there: There::Different,
            ..
        } if !step.part.is_of_the_machine() => Some(path.clone()),
        _ => None,
    });
    match other {
        None => Ok(()),
        Some(unit) => Err(Failure::Unit {
            unit,
            why: "it says something else, and nothing is written; look at it with --dry-run, then give --force (it is kept beside the new one)"
                .to_owned(),
        }),
    }
}

fn carry_out(machine: &Machine, told: &Setup, steps: &[Step], own: bool, whole: bool) -> Result<Vec<Done>, Failure> {
    let elsewhere = told.root != Path::new("/");
    let owners = Machine::at(Path::new("/"));
    let mut done = Vec::new();
    for step in steps {
        let asked = if step.part.is_of_the_machine() { whole } else { own };
        let is_command = matches!(step.what, What::Command { .. });
        done.push(match &step.what {
            What::File { there: There::Same, .. } => Done::Same,
            _ if !asked || (elsewhere && is_command) => Done::Left,
            What::File { path, .. } if path == CONFIG && !elsewhere => apply::step(machine, step, agent_takes)?,
            _ if step.part == Part::Owner => apply::step(&owners, step, |_| Ok(()))?,
            _ => apply::step(machine, step, |_| Ok(()))?,
        });
    }
    Ok(done)
}

/// The agent itself has the last word, with conf.d beside the file.
fn agent_takes(path: &Path) -> Result<(), Failure> {
    if !Path::new(REMPARTD).exists() {
        return Ok(());
    }
    let judged = Command::new(REMPARTD).arg("--check").arg("--config").arg(path).output();
    let judged = judged.map_err(|error| Failure::Machine(format!("{REMPARTD}: {error}")))?;
    match judged.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&judged.stderr).into_owned();
            let line = said.lines().last().unwrap_or("it gave no reason");
            Err(Failure::Unit {
                unit: CONFIG.to_owned(),
                why: format!(
                    "nothing is written, the agent would not start with it: {}",
                    one_line(line)
                ),
            })
        }
    }
}

fn word(part: Part) -> &'static str {
    match part {
        Part::Packages => "packages",
        Part::Kernel => "kernel",
        Part::Configuration => "configuration",
        Part::Services => "services",
        Part::Owner => "owner",
    }
}

/// The plan, for people; with `texts` every file's text, else the configuration's alone.
fn show(steps: &[Step], texts: bool) {
    for step in steps {
        let head = format!("{:<14}", word(step.part));
        match &step.what {
            What::File {
                path,
                text,
                line,
                there,
                ..
            } => {
                let does = match there {
                    There::Absent => "write",
                    There::Same => "as it is",
                    There::Different => "replace, and keep what is there beside it",
                };
                match line {
                    Some(line) => {
                        println!("{head}{path}:{}: {}", line.number, step.why);
                        if !line.before.is_empty() {
                            println!("{:14}- {}", "", one_line(&line.before));
                        }
                        println!("{:14}+ {}", "", one_line(&line.after));
                    }
                    None => {
                        println!("{head}{path}: {does} ({})", step.why);
                        if (texts || path == CONFIG) && *there != There::Same {
                            text.lines().for_each(|line| println!("{:14}| {line}", ""));
                        }
                    }
                }
            }
            What::Command { words } => println!("{head}{} ({})", words.join(" "), step.why),
            What::Say => println!("{head}{}", step.why),
        }
    }
    println!();
}

fn outcome(steps: &[Step], done: &[Done]) {
    let mut left = false;
    for (step, done) in steps.iter().zip(done) {
        match (&step.what, done) {
            (What::File { path, .. }, Done::Written) => println!("{path} is written"),
            (What::Command { words }, Done::Ran) => println!("{}: done", words.join(" ")),
            (What::File { .. } | What::Command { .. }, Done::Left) => left = true,
            _ => {}
        }
    }
    if left {
        println!("the machine itself is left as it was: do the rest by hand, or run setup with --apply");
    }
    println!("rempart doctor says what is still missing");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_valid_certificate_is_no_authority() {
        let refused = |seen| authority("/ca.pem", seen).expect_err("refused").to_string();
        assert!(refused(Seen::Absent).contains("not there"));
        assert!(refused(Seen::Hidden("only root may look".into())).contains("root"));
        assert!(refused(Seen::Is("nothing".into())).contains("no certificate"));
    }

    #[test]
    fn with_nobody_to_ask_only_rempart_s_own_files_are_in_the_way() {
        let file = |part, there| Step::file(part, "/a".into(), "x".into(), there, "");
        assert!(unasked(&[file(Part::Configuration, None), file(Part::Owner, Some("x"))]).is_ok());
        assert!(unasked(&[file(Part::Configuration, Some("y"))]).is_err());
        assert!(unasked(&[file(Part::Owner, Some("y"))]).is_err());
        assert!(
            unasked(&[file(Part::Kernel, Some("y"))]).is_ok(),
            "--apply asks for that"
        );
    }
}
