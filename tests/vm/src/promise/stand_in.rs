//! Root makes itself the agent: by the TPM, by another program under its name, by what it reads or talks to. None of it gets anywhere, and
//! the agent as installed is unlocked again afterwards.

use std::time::Duration;

use crate::{
    node::Node,
    report::{Outcome, Report},
    stage::Stage,
};

const DROP_IN: &str = "/run/systemd/system/rempartd.service.d/evil.conf";
const PATIENCE: Duration = Duration::from_secs(60);

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    tpm(node, report)?;
    nobody(node, report)?;
    elsewhere(node, report)
}

/// A quote signed by the attestation key is what the Verifier asks of a node.
fn tpm(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    for (name, command) in [
        (
            "stand_in::tpm_of_roots_own",
            "tpm2_getrandom --tcti device:/dev/tpmrm0 --hex 8",
        ),
        (
            "stand_in::tpm_as_the_agents_user",
            "setpriv --reuid rempart --regid rempart --init-groups tpm2_getrandom --tcti device:/dev/tpmrm0 --hex 8",
        ),
        (
            "stand_in::tpm_through_systemd",
            "systemd-run --quiet --wait --pipe tpm2_getrandom --tcti device:/dev/tpm0 --hex 8",
        ),
    ] {
        let out = node.sh(&format!("{command} 2>&1"))?;
        let seen = match (out.rc, out.stdout.contains("Operation not permitted")) {
            (0, _) => Outcome::Works,
            (_, true) => Outcome::Denied,
            _ => Outcome::Broken,
        };
        report.row(
            name,
            Outcome::Denied,
            seen,
            out.stdout.lines().next().unwrap_or_default(),
        );
    }
    Ok(())
}

/// The agent's own program, started by systemd under conditions that root chose, is nobody: it has no label, so no TPM and no orders.
fn nobody(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    for (name, how) in [
        ("stand_in::agent_with_arguments", "/usr/lib/rempart/rempartd --check"),
        (
            "stand_in::agent_with_a_preloaded_library",
            "-E LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libz.so.1 /usr/lib/rempart/rempartd",
        ),
        (
            "stand_in::guard_with_another_agent",
            "/usr/lib/rempart/rempart-guard --agent /usr/bin/python3",
        ),
    ] {
        let since = node.last_event()?;
        node.sh(&format!(
            "timeout 20 systemd-run --quiet --wait --pipe -p User=nobody -p RuntimeMaxSec=5 {how} 2>&1; true"
        ))?;
        std::thread::sleep(Duration::from_secs(2));
        let events = node.events_since(since)?;
        let told = events
            .iter()
            .any(|event| event.vector == "PRELOAD" && event.verdict == "denied");
        report.row(
            name,
            Outcome::Denied,
            if told { Outcome::Denied } else { Outcome::Broken },
            format!("{} events", events.len()),
        );
    }
    Ok(())
}

/// The agent as installed, but systemd has mounted something of root's where it reads or talks.
fn elsewhere(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    node.sh("sed 's/9m\\|10m/11m/' /etc/rempart/rempart.toml > /run/evil.toml; chmod 644 /run/evil.toml; cp -L /usr/lib/x86_64-linux-gnu/libz.so.1 /run/evil.so")?;
    for (name, line, why) in [
        (
            "stand_in::another_configuration",
            "BindReadOnlyPaths=/run/evil.toml:/etc/rempart/rempart.toml",
            "differs from what it was",
        ),
        (
            "stand_in::another_configuration_and_no_guard",
            "BindReadOnlyPaths=/run/evil.toml:/etc/rempart/rempart.toml\nInaccessiblePaths=/run/rempart-guard",
            "programs are in force",
        ),
        (
            "stand_in::another_bus",
            "BindPaths=/run/dbus/system_bus_socket:/run/dbus/system_bus_socket",
            "mounts differs",
        ),
        (
            "stand_in::another_library",
            "BindReadOnlyPaths=/run/evil.so:/usr/lib/x86_64-linux-gnu/libtss2-esys.so.0",
            "",
        ),
    ] {
        node.sh(&format!("mkdir -p $(dirname {DROP_IN}); printf '[Service]\\n{line}\\n' > {DROP_IN}; systemctl daemon-reload; systemctl stop rempart-gate.service; timeout 30 systemctl restart rempartd.service; true"))?;
        let settled = node.wait_word("unlocked", Duration::from_secs(20));
        let journal = node
            .sh("journalctl -b -u rempartd.service -o cat --no-pager -n 30")?
            .stdout;
        let (start, _) = node.restart_raw("demo-db.service")?;
        let named = why.is_empty() || journal.contains(why);
        let word = settled
            .as_ref()
            .map_or("not running".to_owned(), |state| state.word.clone());
        let seen = match (word.as_str(), start, named) {
            ("unlocked", ..) | (_, Outcome::Works, _) => Outcome::Works,
            (_, _, true) => Outcome::Denied,
            _ => Outcome::Broken,
        };
        let line = journal
            .lines()
            .rev()
            .find(|line| line.contains("not attested") || line.contains("differs"))
            .unwrap_or(&word);
        report.row(name, Outcome::Denied, seen, line.to_owned());
    }
    node.sh(&format!(
        "rm -f {DROP_IN}; systemctl daemon-reload; systemctl reset-failed rempartd.service; true"
    ))?;
    node.restart_agent()?;
    let state = node.wait_word("unlocked", PATIENCE * 2)?;
    let (start, line) = node.restart_expecting_start("demo-db.service")?;
    report.row(
        "stand_in::the_agent_itself_is_unlocked_again",
        Outcome::Works,
        start,
        format!("{} {line}", state.word),
    );
    Ok(())
}
