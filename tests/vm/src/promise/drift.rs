//! A register that moves while the node runs: the next round is refused and latched, what was released is revoked, no service starts,
//! and only an operator's word at the Verifier lets the node in again.

use std::{
    thread::sleep,
    time::{Duration, UNIX_EPOCH},
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
    let extended = node.sh(
        "systemd-run --quiet --wait --pipe /usr/lib/systemd/systemd-pcrextend --tpm2-device=device:/dev/tpmrm0 rempart-drift 2>&1",
    )?;
    anyhow::ensure!(extended.rc == 0, "systemd-pcrextend: {}", extended.stdout);
    node.sh("rempart attest; true")?;
    // At once: the promise counts from the appraisal that failed, not from when somebody looks.
    revoked(stage, report)?;
    let node = stage.node()?;
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

/// The vault knows the node no more: its entity, which carries every token of its logins, is disabled. The Verifier tells when the
/// appraisal failed in whole seconds, so up to one second is counted that was none.
fn revoked(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let name = "drift::the_vault_disables_the_node_within_5_s";
    if stage.site().bao.is_none() {
        report.skip(name, "no OpenBao on this machine");
        return Ok(());
    }
    let refused = UNIX_EPOCH + Duration::from_secs(stage.site().latched_at()?);
    let (disabled, late) = loop {
        let disabled = stage.site().entity_disabled()?;
        let late = refused.elapsed()?;
        // Whatever the vault says after the time is over does not count.
        if disabled || late > REVOKED {
            break (disabled && late <= REVOKED, late);
        }
        sleep(Duration::from_millis(100));
    };
    report.row(
        name,
        Outcome::Denied,
        if disabled { Outcome::Denied } else { Outcome::Works },
        format!(
            "disabled: {disabled}, at most {:.1} s after the appraisal that failed",
            late.as_secs_f32()
        ),
    );
    Ok(())
}
