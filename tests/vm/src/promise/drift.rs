//! A register that moves while the node runs: the next round is refused and latched, what was released is revoked, no service starts,
//! and only an operator's word at the Verifier lets the node in again.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

const ROUND: Duration = Duration::from_secs(90);

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
    Ok(())
}
