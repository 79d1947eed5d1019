//! A register that moves while the node runs: the next round is refused and latched, what was released is revoked, no service starts,
//! and only an operator's word at the Verifier lets the node in again.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

const ROUND: Duration = Duration::from_secs(90);
/// What is promised.
const REVOKED: Duration = Duration::from_secs(5);

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    let before = node.wait_word("unlocked", ROUND)?;
    anyhow::ensure!(before.word == "unlocked", "{}: {}", before.word, before.reason);

    // Root in the guest measures one more word, as systemd does for a boot phase.
    let extended = node.sh("/usr/lib/systemd/systemd-pcrextend --tpm2-device=device:/dev/tpmrm0 rempart-drift 2>&1")?;
    anyhow::ensure!(extended.rc == 0, "systemd-pcrextend: {}", extended.stdout);
    node.sh("rempart attest; true")?;
    let state = node.wait_word("locked", ROUND)?;
    let journal = node
        .sh("journalctl -b -u rempartd.service -o cat --no-pager | tail -20")?
        .stdout;
    let named = format!("{} {journal}", state.reason).contains("PCR 11");
    let (start, line) = node.restart_raw("demo-db.service")?;
    let seen = match (state.word.as_str(), named, start) {
        ("locked", true, Outcome::Denied) => Outcome::Denied,
        ("locked", ..) => Outcome::Broken,
        _ => Outcome::Works,
    };
    report.row("drift::extended_register", Outcome::Denied, seen, state.reason);
    report.row("drift::no_service_starts", Outcome::Denied, start, line);
    revoked(stage, report)?;

    // The next round is refused for the latch, whatever the registers say; an operator's word lifts it, and the registers count again.
    let node = stage.node()?;
    node.sh("rempart attest; true")?;
    let latched = node.state()?;
    let seen = match latched.status.to_string().contains("drift-latched") {
        true => Outcome::Denied,
        false => Outcome::Broken,
    };
    report.row("drift::is_latched", Outcome::Denied, seen, latched.reason);
    stage.site().clear_node()?;
    let node = stage.node()?;
    node.sh("rempart attest; true")?;
    let state = node.wait_word("locked", ROUND)?;
    let again = state.word == "locked" && state.status.to_string().contains("PCR 11");
    report.row(
        "drift::cleared_but_still_drifted",
        Outcome::Denied,
        if again { Outcome::Denied } else { Outcome::Broken },
        format!("{} {}", state.word, state.reason),
    );
    Ok(())
}

/// The vault knows the node no more: its entity, which carries every token of its logins, is disabled.
fn revoked(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let name = "drift::the_vault_disables_the_node_within_5_s";
    if stage.site().bao.is_none() {
        report.skip(name, "no OpenBao on this machine");
        return Ok(());
    }
    let refused = Instant::now();
    let disabled = loop {
        if stage.site().entity_disabled()? {
            break true;
        }
        if refused.elapsed() > REVOKED {
            break false;
        }
        sleep(Duration::from_millis(200));
    };
    report.row(
        name,
        Outcome::Denied,
        if disabled { Outcome::Denied } else { Outcome::Works },
        format!(
            "disabled: {disabled}, {:.1} s after the node saw its refusal",
            refused.elapsed().as_secs_f32()
        ),
    );
    Ok(())
}
