//! The right image under a policy that does not name it: locked at the next attestation; named again: unlocked.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let foreign = stage.site().foreign_policy()?;
    let (installed, line) = stage.site().install_policy(&foreign)?;
    anyhow::ensure!(
        installed == Outcome::Works,
        "the foreign policy was not installed: {line}"
    );
    let node = stage.node()?;
    node.sh("rempart attest")?;
    let state = node.wait_word("locked", Duration::from_secs(60))?;
    let (denied, _) = node.restart_raw("demo-db.service")?;
    let seen = if state.word == "locked" && denied == Outcome::Denied {
        Outcome::Denied
    } else {
        Outcome::Works
    };
    report.row("refusal::foreign_policy", Outcome::Denied, seen, state.reason);

    stage.site().install_image_policy()?;
    stage.site().clear_node()?;
    let node = stage.node()?;
    node.sh("rempart attest")?;
    let state = node.wait_word("unlocked", Duration::from_secs(60))?;
    let (seen, line) = node.restart_expecting_start("demo-db.service")?;
    report.row(
        "release::after_the_policy_names_the_image",
        Outcome::Works,
        seen,
        format!("{} {line}", state.word),
    );
    Ok(())
}
