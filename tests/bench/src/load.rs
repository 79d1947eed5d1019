//! Many wrapped units, started at once and again and again while the vault is killed, sealed, stopped for a time and restarted: each start gets
//! its own unit's secret or says why not, and nothing is left over in the agent or at the vault.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use rempart_harness::{Container, Pki, Postgres};
use serde_json::json;

use crate::{
    node::{Node, talk},
    stamp::SECRET,
    table::Table,
    units::resident,
};

/// Units of one restart while the vault is well and while it is not.
const BATCH: usize = 20;
/// Each so-manieth unit has a login of its own at a database as well, for as long as it runs.
const DATABASE: usize = 4;
/// Until what ended units held has been given back: the agent looks every 20 s, and a vault that was killed meanwhile ends what it was told to end in its own
/// time.
const GIVEN_BACK: Duration = Duration::from_secs(180);
/// How long the vault does not answer when it is stopped: longer than the agent waits for it once, shorter than twice.
const STOPPED: Duration = Duration::from_secs(8);
/// From the vault's return until all units have to start again: a node that had locked attests first.
const RECOVERY: Duration = Duration::from_secs(60);
/// Connections to the vault that the agent may keep for the next question.
const IDLE: usize = 4;
/// The least piece of the agent's heap, bytes; a stack is larger.
const HEAP: u64 = 512 << 10;
/// What the agent's memory may grow, MiB: buffers that the allocator keeps.
const GROWTH: f64 = 2.0;

/// What became of the starts.
#[derive(Debug, Default)]
pub struct Starts {
    /// With the unit's own secret.
    pub given: usize,
    /// Not started, with the reason in the journal.
    pub refused: usize,
    /// Refusals by their words.
    reasons: BTreeMap<String, usize>,
    /// Everything else: none may be.
    pub wrong: Vec<String>,
}

/// What the agent holds.
#[derive(Debug)]
pub struct Held {
    /// Descriptors.
    pub descriptors: usize,
    /// Secret memory that is neither heap nor stack: what is made for units.
    pub areas: usize,
    /// Resident memory, MiB.
    pub rss: f64,
    /// The same, shared pages in part.
    pub pss: f64,
    /// Tokens that live at the vault.
    pub tokens: usize,
    /// Logins at the database that live at the vault.
    pub leases: usize,
    /// Its process.
    pub pid: String,
}

/// One run.
#[derive(Debug)]
pub struct Load {
    /// All started at once, the vault well.
    pub first: Starts,
    /// While the vault was not well, or was.
    pub during: Starts,
    /// All once more at the end.
    pub last: Starts,
    /// After the first, and after the last.
    pub held: [Held; 2],
    /// What the agent said last before it ended, if it did.
    pub ended: String,
    /// What was done to the vault, times.
    pub faults: BTreeMap<&'static str, usize>,
    /// Where logins are made and ended.
    _database: Postgres,
}

impl Load {
    /// Why the run fails, or nothing.
    pub fn defects(&self, units: usize) -> Vec<String> {
        let [before, after] = &self.held;
        let mut defects: Vec<String> = [&self.first, &self.during, &self.last]
            .into_iter()
            .flat_map(|starts| starts.wrong.clone())
            .collect();
        let mut judge = |holds: bool, why: String| {
            if !holds {
                defects.push(why);
            }
        };
        for (when, starts) in [("at first", &self.first), ("in the end", &self.last)] {
            judge(
                starts.given == units,
                format!(
                    "{when} {} of {units} units got their secret: {:?}",
                    starts.given, starts.reasons
                ),
            );
        }
        judge(
            before.pid == after.pid,
            format!("the agent was started again meanwhile: {}", self.ended),
        );
        judge(
            after.descriptors <= before.descriptors + IDLE,
            format!(
                "descriptors: {} before, {} after",
                before.descriptors, after.descriptors
            ),
        );
        judge(
            after.areas <= before.areas,
            format!("secret areas: {} before, {} after", before.areas, after.areas),
        );
        judge(
            after.tokens <= before.tokens,
            format!("tokens at the vault: {} before, {} after", before.tokens, after.tokens),
        );
        judge(
            after.leases <= before.leases,
            format!("leases at the vault: {} before, {} after", before.leases, after.leases),
        );
        judge(
            after.rss <= before.rss + GROWTH,
            format!("resident memory: {:.1} MiB before, {:.1} after", before.rss, after.rss),
        );
        defects
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let count = |number: usize| number as f64;
        for (when, starts) in [
            ("all at once", &self.first),
            ("during faults", &self.during),
            ("all in the end", &self.last),
        ] {
            table.add(
                &format!("starts, {when}: with their secret"),
                count(starts.given),
                "",
                None,
                None,
            );
            table.add(
                &format!("starts, {when}: refused with a line"),
                count(starts.refused),
                "",
                None,
                None,
            );
            table.add(
                &format!("starts, {when}: anything else"),
                count(starts.wrong.len()),
                "",
                None,
                Some(0.0),
            );
        }
        let [before, after] = &self.held;
        let mut pair = |name: &str, before: f64, after: f64, unit: &str, room: f64| {
            table.add(name, after, unit, Some(before), Some(before + room));
        };
        pair(
            "rempartd, descriptors",
            count(before.descriptors),
            count(after.descriptors),
            "",
            count(IDLE),
        );
        pair(
            "rempartd, secret areas",
            count(before.areas),
            count(after.areas),
            "",
            0.0,
        );
        pair("rempartd, Rss", before.rss, after.rss, "MiB", GROWTH);
        pair("rempartd, Pss", before.pss, after.pss, "MiB", GROWTH);
        pair("tokens at OpenBao", count(before.tokens), count(after.tokens), "", 0.0);
        pair(
            "database logins at OpenBao",
            count(before.leases),
            count(after.leases),
            "",
            0.0,
        );
        for (fault, times) in &self.faults {
            table.note(&format!("OpenBao {fault}: {times} times"));
        }
        for (reason, times) in &self.during.reasons {
            table.note(&format!("{times} × {reason}"));
        }
        table
    }
}

/// The benchmark.
pub fn measure(deb: &Path, count: usize, minutes: u64) -> Result<()> {
    let mut node = Node::boot(deb, &units(count))?;
    let load = run(&mut node, count, Duration::from_secs(60 * minutes))?;
    let defects = load.defects(count);
    load.table().publish("load")?;
    ensure!(defects.is_empty(), "{}", defects.join("\n"));
    Ok(())
}

/// `count` units, each with a secret of its own, which they prove without telling it.
pub fn units(count: usize) -> Vec<(String, String)> {
    (1..=count)
        .map(|number| {
            let script = format!(
                "echo \"$INVOCATION_ID $$(printf %%s \"$${SECRET}\" | sha256sum) $$LOGIN\" >/run/load-{number}; systemd-notify --ready; exec sleep infinity"
            )
            .replace("$INVOCATION_ID", "$$INVOCATION_ID");
            let login = if number % DATABASE == 0 { "Secret=LOGIN=db/creds/load#username\nOnRotate=none\n" } else { "" };
            let text = format!(
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/bash -c '{script}'\n\
                 [X-Rempart]\nWrap=yes\nRole=bench\nSecret={SECRET}=kv/load#u{number}\nDeliver=getenv\n{login}"
            );
            (unit(number), text)
        })
        .collect()
}

fn unit(number: usize) -> String {
    format!("load-{number}.service")
}

fn value(number: usize) -> String {
    format!("the secret of unit {number}, and of no other")
}

/// Plays it for `time` on a node that has the [`units`].
pub fn run(node: &mut Node, count: usize, time: Duration) -> Result<Load> {
    let fields: serde_json::Map<String, serde_json::Value> = (1..=count)
        .map(|number| (format!("u{number}"), json!(value(number))))
        .collect();
    node.bao.write("kv/data/load", &json!({"data": fields}))?;
    let database = database(node)?;
    let wanted = digests(&node.container, count)?;
    let all: Vec<usize> = (1..=count).collect();
    // The login comes with the first, as does what grows once.
    start(&node.container, &all[..1], &wanted)?;
    let first = start(&node.container, &all, &wanted)?;
    let before = held(node)?;

    let (begin, mut during, mut faults) = (Instant::now(), Starts::default(), BTreeMap::new());
    let batches: Vec<Vec<usize>> = all.chunks(BATCH).map(<[usize]>::to_vec).collect();
    let mut batches = batches.iter().cycle();
    let mut next = || batches.next().cloned().unwrap_or_default();
    let plan = [
        "well",
        "sealed",
        "stopped for a time",
        "killed",
        "well",
        "stopped and continued in between",
        "restarted",
    ];
    for fault in plan.iter().cycle() {
        if begin.elapsed() > time {
            break;
        }
        *faults.entry(*fault).or_default() += 1;
        let inside = &node.container;
        match *fault {
            "well" => during.add(start(inside, &next(), &wanted)?),
            "sealed" => {
                node.bao.seal()?;
                during.add(start(inside, &next(), &wanted)?);
                node.bao.unseal()?;
            }
            "stopped for a time" => {
                node.bao.signal(Signal::SIGSTOP);
                let batch = next();
                restart(inside, &batch, false)?;
                std::thread::sleep(STOPPED);
                node.bao.signal(Signal::SIGCONT);
                during.add(judge(inside, &batch, &wanted, Instant::now())?);
            }
            "stopped and continued in between" => {
                for batch in [next(), next()] {
                    restart(inside, &batch, false)?;
                    for _ in 0..10 {
                        node.bao.signal(Signal::SIGSTOP);
                        std::thread::sleep(Duration::from_millis(150));
                        node.bao.signal(Signal::SIGCONT);
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    during.add(judge(inside, &batch, &wanted, Instant::now())?);
                }
            }
            hard => {
                let batch = next();
                restart(inside, &batch, false)?;
                if hard == "killed" {
                    node.bao.signal(Signal::SIGKILL);
                }
                node.bao.stop_process();
                during.add(judge(inside, &batch, &wanted, Instant::now())?);
                during.add(start(inside, &next(), &wanted)?);
                node.bao.run_process()?;
                during.add(start(inside, &next(), &wanted)?);
                node.bao.unseal()?;
            }
        }
    }
    node.wait_for_unlock()?;
    let back = Instant::now();
    while start(&node.container, &all[..1], &wanted)?.given == 0 {
        ensure!(
            back.elapsed() < RECOVERY,
            "no unit starts {RECOVERY:?} after the vault was back"
        );
    }
    let last = start(&node.container, &all, &wanted)?;
    let begin = Instant::now();
    let mut after = held(node)?;
    while after.leases > before.leases && begin.elapsed() < GIVEN_BACK {
        after = held(node)?;
    }
    Ok(Load {
        first,
        during,
        last,
        held: [before, after],
        ended: last_words(&node.container)?,
        faults,
        _database: database,
    })
}

/// A database whose logins OpenBao makes, for the role that reads the units' secrets.
fn database(node: &Node) -> Result<Postgres> {
    let postgres = Postgres::start(&Pki::open()?)?;
    let bao = &node.bao;
    bao.connect(&postgres)?;
    bao.logins("load", "2h", "3h", "")?;
    let rules = r#"path "kv/data/bench" { capabilities = ["read"] }
path "kv/data/load" { capabilities = ["read"] }
path "db/creds/load" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }"#;
    bao.role("bench", &["bench"])?;
    bao.write("sys/policies/acl/rempart-bench", &json!({ "policy": rules }))?;
    Ok(postgres)
}

/// SHA-256 of each unit's secret.
fn digests(container: &Container, count: usize) -> Result<HashMap<usize, String>> {
    let mut script = String::new();
    for number in 1..=count {
        let _ = writeln!(script, "printf %s '{}' | sha256sum", value(number));
    }
    let (_, said) = talk(container, &["sh"], &script)?;
    Ok(said
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split(' ').next().unwrap_or_default().to_owned()))
        .collect())
}

/// (Re)starts the units together and judges what became of each.
fn start(container: &Container, numbers: &[usize], wanted: &HashMap<usize, String>) -> Result<Starts> {
    let since = Instant::now();
    restart(container, numbers, true)?;
    judge(container, numbers, wanted, since)
}

/// Whether they started is not looked at here.
fn restart(container: &Container, numbers: &[usize], wait: bool) -> Result<()> {
    let mut command = vec!["systemctl".to_owned(), "restart".into()];
    if !wait {
        command.push("--no-block".into());
    }
    command.extend(numbers.iter().copied().map(unit));
    container.output(&command).map(drop)
}

/// Waits until none of the units is being started, and looks at each.
fn judge(container: &Container, numbers: &[usize], wanted: &HashMap<usize, String>, since: Instant) -> Result<Starts> {
    let names: Vec<String> = numbers.iter().copied().map(unit).collect();
    let show = |property: &str| -> Result<Vec<String>> {
        let mut command = vec![
            "systemctl".to_owned(),
            "show".into(),
            "--property".into(),
            property.into(),
            "--value".into(),
        ];
        command.extend(names.iter().cloned());
        let said = container.run(&command)?;
        Ok(said
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    };
    container.wait_until(Duration::from_secs(100), "all units started or failed", || {
        let states = show("ActiveState")?;
        let jobs = container.output(&["systemctl", "list-jobs", "--no-legend", "load-*"])?;
        Ok(jobs.is_empty() && states.iter().all(|state| state == "active" || state == "failed"))
    })?;
    let (states, ids) = (show("ActiveState")?, show("InvocationID")?);
    if states.len() != names.len() || ids.len() != names.len() {
        bail!(
            "{} units, {} states, {} invocations",
            names.len(),
            states.len(),
            ids.len()
        );
    }
    let reasons = refusals(container, since)?;
    let proofs = container.output(&["sh", "-c", "grep -H . /run/load-*"])?;
    let proof = |number: usize| {
        let prefix = format!("/run/load-{number}:");
        proofs
            .lines()
            .find_map(|line| line.strip_prefix(prefix.as_str()))
            .unwrap_or_default()
    };
    let mut starts = Starts::default();
    for ((&number, state), id) in numbers.iter().zip(&states).zip(&ids) {
        let mut words = proof(number).split_whitespace();
        let (of, digest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // «-» is what sha256sum calls its input.
        let login = words.nth(1).is_some_and(|login| login.starts_with("v-"));
        let whole = wanted.get(&number).is_some_and(|wanted| wanted == digest) && login == (number % DATABASE == 0);
        let ran = of == id;
        match (state.as_str(), ran, reasons.get(&unit(number))) {
            ("active", true, _) if whole => starts.given += 1,
            ("failed", false, Some(reason)) => {
                starts.refused += 1;
                *starts.reasons.entry(reason.clone()).or_default() += 1;
            }
            (state, _, reason) => starts.wrong.push(format!(
                "{}: {state}, invocation {id}, proof «{}», in the journal {reason:?}",
                unit(number),
                proof(number)
            )),
        }
    }
    Ok(starts)
}

/// The wrapper's last line of each unit since then, without what differs from start to start.
fn refusals(container: &Container, since: Instant) -> Result<HashMap<String, String>> {
    container.run(&["journalctl", "--sync"])?;
    // Restarts that were begun before their judgement: a minute more does no harm, as the state is looked at too.
    let since = format!("--since=-{}s", since.elapsed().as_secs() + 60);
    let said = container.output(&[
        "journalctl",
        "--boot",
        "--output=json",
        "--output-fields=MESSAGE,_SYSTEMD_UNIT",
        since.as_str(),
        "SYSLOG_IDENTIFIER=rempart-wrap",
    ])?;
    let mut found = HashMap::new();
    for line in said.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        if let Some(reason) = text("MESSAGE").strip_prefix("rempart-wrap: service not started: ") {
            found.insert(text("_SYSTEMD_UNIT"), neutral(reason));
        }
    }
    Ok(found)
}

fn neutral(reason: &str) -> String {
    reason
        .split(' ')
        .map(|word| if word.starts_with("load-") { "UNIT" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

fn last_words(container: &Container) -> Result<String> {
    let log = container.journal("rempartd.service")?;
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.iter().position(|line| line.contains("Main process exited"));
    Ok(end.map_or_else(String::new, |end| lines[end.saturating_sub(8)..=end].join(" / ")))
}

/// What the agent and the vault hold now.
pub fn held(node: &Node) -> Result<Held> {
    // Connections that are kept for the next question end meanwhile, or do not.
    std::thread::sleep(Duration::from_secs(2));
    let inside = &node.container;
    let pid = inside.property("rempartd.service", "MainPID")?;
    let count = |script: String| -> Result<usize> { Ok(inside.run(&["sh", "-c", &script])?.trim().parse()?) };
    let tokens: Vec<String> =
        serde_json::from_str(&node.bao.bao(&["list", "-format=json", "auth/token/accessors"], None)?)
            .context("the list of accessors")?;
    Ok(Held {
        descriptors: count(format!("ls /proc/{pid}/fd | wc -l"))?,
        areas: areas(&inside.run(&["sh", "-c", &format!("cat /proc/{pid}/maps; ls -l /proc/{pid}/fd")])?),
        rss: resident(inside, &pid, "Rss")?,
        pss: resident(inside, &pid, "Pss")?,
        tokens: tokens.len(),
        leases: node.bao.leases("db/creds/load"),
        pid,
    })
}

/// Descriptors of secret memory, and mappings of it that are smaller than what the agent's heap and its stacks are made of.
fn areas(text: &str) -> usize {
    let small = |line: &str| -> Option<bool> {
        let (begin, end) = line.split(' ').next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(address(end)? - address(begin)? < HEAP)
    };
    text.lines()
        .filter(|line| line.contains("secretmem"))
        .filter(|line| small(line).unwrap_or(true))
        .count()
}

impl Starts {
    fn add(&mut self, other: Self) {
        self.given += other.given;
        self.refused += other.refused;
        self.wrong.extend(other.wrong);
        for (reason, times) in other.reasons {
            *self.reasons.entry(reason).or_default() += times;
        }
    }
}
