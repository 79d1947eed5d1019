//! A secret reaches each service after the measured boot, and nothing of Rempart stays in the unit.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

/// Asks nginx, whose key the certificate has to belong to.
const WEB: &str = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -CAfile /etc/rempart-test/ca.pem \
                   -verify_hostname web.rempart.test -connect 127.0.0.1:8443 2>&1";

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let patience = Duration::from_secs(180);
    let node = stage.node()?;
    let state = node.wait_settled(patience)?;
    let unlocked = if state.word == "unlocked" {
        Outcome::Works
    } else {
        Outcome::Denied
    };
    let said = node.sh("systemctl show rempart-unlocked.target -p ActiveEnterTimestampMonotonic --value")?;
    let seconds = said.stdout.trim().parse::<f64>().map_or(0.0, |us| us / 1e6);
    report.row(
        "release::unlocked",
        Outcome::Works,
        unlocked,
        format!("{} after {seconds:.1} s of boot {}", state.word, state.reason),
    );
    report.measure("unlocked_after_kernel_start", seconds, "s");

    // The guard's verdict on itself is what all later rows stand on.
    let guard = &state.status["guard"];
    let enforcing = guard["enforcing"] == true && guard["armed"] == true;
    report.row(
        "release::guard_enforces",
        Outcome::Works,
        if enforcing { Outcome::Works } else { Outcome::Broken },
        guard_line(guard),
    );

    for (unit, probe, wanted) in [
        (
            "demo-db.service",
            "journalctl -b -u demo-db.service -o cat",
            "connected as billing",
        ),
        ("demo-web.service", WEB, "200 OK"),
    ] {
        let name = unit.trim_end_matches(".service");
        let seen = node.wait_for(probe, wanted, Duration::from_secs(60))?;
        let outcome = if seen.contains(wanted) {
            Outcome::Works
        } else {
            Outcome::Broken
        };
        let said = if outcome == Outcome::Works {
            format!("{wanted:?}")
        } else {
            seen
        };
        report.row(format!("release::{name}"), Outcome::Works, outcome, said);
        if outcome == Outcome::Works {
            report.milestone("first_secret_released");
        }
        let processes = node.sh(&format!(
            "for p in $(cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs); do cat /proc/$p/comm; done"
        ))?;
        let ours = processes.stdout.lines().any(|comm| comm.starts_with("rempart"));
        let none = !ours && !processes.stdout.trim().is_empty();
        let outcome = if none { Outcome::Works } else { Outcome::Broken };
        report.row(
            format!("release::{name}_runs_alone"),
            Outcome::Works,
            outcome,
            format!(
                "processes in the unit: {}",
                processes.stdout.split_whitespace().collect::<Vec<_>>().join(", ")
            ),
        );
    }
    rotation(stage, report)?;
    no_false_alarm(stage, report)
}

/// New secrets reach nginx while it runs, with the guard in force: same process, and it serves with what is in its file now.
fn rotation(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    let main = "systemctl show demo-web.service -p MainPID --value";
    let before = node.sh(main)?.stdout;
    let asked = node.sh("rempart rotate demo-web.service 2>&1")?.stdout;
    let told = "journalctl -b -u demo-web.service -o cat";
    let said = node.wait_for(told, "Reloaded demo-web.service", Duration::from_secs(60))?;
    let (after, served) = (
        node.sh(main)?.stdout,
        node.wait_for(WEB, "200 OK", Duration::from_secs(60))?,
    );
    let released = node.sh("rempart events --json -n 50")?.stdout;
    let released = released
        .lines()
        .filter(|line| line.contains("\"released\"") && line.contains("demo-web.service"))
        .count();
    let works = asked.contains("it is reloaded")
        && said.contains("Reloaded demo-web.service")
        && before == after
        && served.contains("200 OK")
        && released == 2;
    report.row(
        "release::demo-web_gets_new_secrets_while_it_runs",
        Outcome::Works,
        if works { Outcome::Works } else { Outcome::Broken },
        format!(
            "{}; process {} then {}; {released} releases",
            asked.trim(),
            before.trim(),
            after.trim()
        ),
    );
    Ok(())
}

/// Nobody attacked yet: whatever the guard denied so far was an innocent's doing, and would hide a real attempt in its noise.
fn no_false_alarm(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let events = stage.node()?.events_since(None)?;
    // journald looks into /proc of each process that logs, and is refused and recorded like anybody else.
    let others = events.iter().filter(|event| event.comm != "systemd-journal");
    let mut denied: Vec<_> = others
        .map(|event| format!("{} by {}", event.vector, event.comm))
        .collect();
    denied.sort();
    denied.dedup();
    let seen = if denied.is_empty() {
        Outcome::Works
    } else {
        Outcome::Broken
    };
    report.row(
        "release::no_false_alarm",
        Outcome::Works,
        seen,
        format!("attempts recorded in a quiet boot: {denied:?}"),
    );
    Ok(())
}

fn guard_line(guard: &serde_json::Value) -> String {
    let attached = guard["programs"]
        .as_array()
        .map_or(0, |list| list.iter().filter(|p| p["attached"] == true).count());
    format!(
        "{attached} programs attached, armed {}, lost events {} {}",
        guard["armed"],
        guard["lost"],
        guard["why"].as_str().unwrap_or("")
    )
}
