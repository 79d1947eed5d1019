//! The attack table: each vector, as root in the guest, on an unwrapped twin (works) and on the wrapped service
//! (denied, with an event). A denial alone proves nothing; a row needs all three.
//!
//! Machine-wide vectors have no twin process: they were tried at boot before the guard was there.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use crate::{
    node::{Event, Node},
    report::{Outcome, Report},
    stage::Stage,
};

const TOOL: &str = "/usr/lib/rempart-test/rempart-attack";

/// Vectors that are also tried on the agent itself.
const ON_THE_AGENT: &[&str] = &[
    "AGENT_KILL",
    "PIDFD_SIGNAL",
    "PTRACE_ATTACH",
    "PROCMEM_READ",
    "ENVIRON_READ",
];

/// Must begin before the service was protected, or inside it; `./x test vm-attacks` shows them.
const IN_TWO_STEPS: &[&str] = &["EARLY_FD", "PTRACE_TRACEME"];

/// One entry of `rempart-attack list --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Vector {
    pub vector: String,
    pub title: String,
    pub scope: String,
    pub verdict: String,
    pub recorded_as: String,
}

/// One line of `rempart-attack run --json`.
#[derive(Debug, Clone, Deserialize)]
struct Attempt {
    vector: String,
    outcome: String,
    #[serde(default)]
    detail: String,
}

type Attempts = BTreeMap<String, Attempt>;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    let vectors = list(node)?;
    let of_scope = |scope: &str| -> Vec<&Vector> {
        vectors
            .iter()
            .filter(|v| v.scope == scope && !IN_TWO_STEPS.contains(&v.vector.as_str()))
            .collect()
    };
    let (process, machine, guard) = (of_scope("process"), of_scope("machine"), of_scope("agent"));
    let on_agent: Vec<&Vector> = vectors
        .iter()
        .filter(|v| ON_THE_AGENT.contains(&v.vector.as_str()))
        .collect();

    let twin = attempts(node, &process, &node.main_pid("demo-db-twin.service")?, None)?;
    let before_guard = lines(&node.sh("cat /run/rempart-test/before-guard.jsonl")?.stdout);
    let agent_twin = attempts(node, &on_agent, &start_agent_twin(node)?, None)?;

    report.heading("Attack table: as root in the guest");
    // The interpreter is not position-independent, so what the twin has at an address the service has there too; of
    // another program an attacker knows none, and the denial must come before the address matters.
    let known = node.sh(&format!(
        "awk '$2 ~ /^rw/ && $6 ~ /python/ {{ split($1, a, \"-\"); print a[1]; exit }}' /proc/{}/maps",
        node.main_pid("demo-db-twin.service")?
    ))?;
    let address = known.stdout.trim().to_owned();
    anyhow::ensure!(!address.is_empty(), "the twin's interpreter has no writable mapping");
    let tables: [(&str, &[&Vector], Option<&Attempts>, String); 4] = [
        ("attack", &process, Some(&twin), node.main_pid("demo-db.service")?),
        ("attack", &machine, Some(&before_guard), "1".to_owned()),
        // No twin can exist for the guard's own pins and maps: vm-attacks tries these on an idle guard.
        ("attack", &guard, None, "1".to_owned()),
        (
            "attack_on_the_agent",
            &on_agent,
            Some(&agent_twin),
            node.main_pid("rempartd.service")?,
        ),
    ];
    for (table, vectors, twin, pid) in tables {
        let since = node.last_event()?;
        let now = attempts(node, vectors, &pid, Some(&address))?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        let events = node.events_since(since)?;
        for vector in vectors {
            row(report, table, vector, twin, now.get(&vector.vector), &events);
        }
    }
    documented(&vectors, report)?;
    hypervisor(stage, report)
}

fn row(
    report: &mut Report,
    table: &str,
    vector: &Vector,
    twin: Option<&Attempts>,
    now: Option<&Attempt>,
    events: &[Event],
) {
    let unprotected = twin.map_or("-", |twin| {
        twin.get(&vector.vector)
            .map_or("not tried", |attempt| attempt.outcome.as_str())
    });
    let protected = now.map_or("not tried", |attempt| attempt.outcome.as_str());
    // On an armed machine any foreign bpf(2) is refused before it is looked at what it asks for.
    let first = if vector.vector.starts_with("BPF_") || vector.vector.ends_with("PIN_GET") {
        "BPF_LOAD"
    } else {
        &vector.recorded_as
    };
    let is_it =
        |event: &&Event| event.verdict == "denied" && (event.vector == vector.recorded_as || event.vector == first);
    let recorded = events.iter().filter(is_it).count();
    let expected = if vector.verdict == "denied" {
        Outcome::Denied
    } else {
        Outcome::NotStopped
    };
    let seen = match (unprotected, protected, recorded) {
        ("obtained" | "-", "denied", 1..) => Outcome::Denied,
        // What journald does to every logging process is denied without an event, or each event would make another.
        ("obtained", "denied", 0) if vector.recorded_as.is_empty() => Outcome::Denied,
        ("obtained" | "-", "obtained", _) if expected == Outcome::NotStopped => Outcome::NotStopped,
        (_, "obtained", _) => Outcome::Works,
        _ => Outcome::Broken,
    };
    let detail = now
        .filter(|_| seen == Outcome::Broken)
        .map_or("", |attempt| attempt.detail.as_str());
    let said = format!(
        "unprotected: {unprotected:<9} protected: {protected:<9} events: {recorded:<2} {} {detail}",
        vector.title
    );
    report.row(format!("{table}::{}", vector.vector), expected, seen, said);
}

/// docs/attacks.md and the registry name the same vectors with the same verdicts.
fn documented(vectors: &[Vector], report: &mut Report) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(rempart_harness::repository().join("docs/attacks.md"))?;
    let mut written: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
            Some((
                cells.first()?.trim_end_matches('`').to_owned(),
                (*cells.get(4)?).to_owned(),
            ))
        })
        .collect();
    let mut known: Vec<_> = vectors.iter().map(|v| (v.vector.clone(), v.verdict.clone())).collect();
    known.push(("HYPERVISOR_READ".into(), "not stopped".into()));
    written.sort();
    known.sort();
    let differing: Vec<_> = known
        .iter()
        .filter(|v| !written.contains(v))
        .chain(written.iter().filter(|v| !known.contains(v)))
        .collect();
    let seen = if differing.is_empty() {
        Outcome::Works
    } else {
        Outcome::Broken
    };
    report.row(
        "docs::attacks_are_the_tested_ones",
        Outcome::Works,
        seen,
        format!("{} vectors, differing: {differing:?}", known.len()),
    );
    Ok(())
}

/// The row that is not stopped: the host reads the guest's memory, as a hypervisor can without a TEE.
fn hypervisor(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let needle = stage.site().db_password.clone();
    let copies = stage.node()?.count_in_guest_memory(needle.as_bytes())?;
    let seen = if copies > 0 {
        Outcome::NotStopped
    } else {
        Outcome::Broken
    };
    report.row(
        "attack::HYPERVISOR_READ",
        Outcome::NotStopped,
        seen,
        format!(
            "without a TEE the host reads guest memory: {copies} copies of the database password found from outside"
        ),
    );
    Ok(())
}

fn list(node: &Node) -> anyhow::Result<Vec<Vector>> {
    let out = node.sh(&format!("{TOOL} list --json"))?;
    let vectors: Vec<Vector> = serde_json::from_str(&out.stdout).context("rempart-attack list")?;
    anyhow::ensure!(vectors.len() >= 80, "only {} vectors are registered", vectors.len());
    Ok(vectors)
}

fn attempts(node: &Node, vectors: &[&Vector], pid: &str, address: Option<&str>) -> anyhow::Result<Attempts> {
    let names: Vec<_> = vectors.iter().map(|v| v.vector.as_str()).collect();
    let address = address.map(|address| format!("--addr {address}")).unwrap_or_default();
    let script = format!(
        r#"for v in {}; do m=; [ $v = INIT_MODULE ] && m="--module /run/rempart-test/dummy.ko"; timeout 20 {TOOL} run $v --pid {pid} {address} $m --json; done; true"#,
        names.join(" ")
    );
    Ok(lines(&node.sh(&script)?.stdout))
}

fn lines(text: &str) -> Attempts {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|a: Attempt| (a.vector.clone(), a))
        .collect()
}

/// A process of the agent's own user that nobody protects.
fn start_agent_twin(node: &Node) -> anyhow::Result<String> {
    let out = node.sh("systemd-run --quiet --unit=agent-twin --property=User=rempart sleep 600 && systemctl show agent-twin -p MainPID --value")?;
    Ok(out.stdout.trim().to_owned())
}
