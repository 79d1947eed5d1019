//! The Verifier away when the agent starts: the node is not unlocked and says why; back again: it unlocks.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    stage.site().verifier.stop()?;
    let node = stage.node()?;
    node.restart_agent()?;
    let state = node.wait_reason(Duration::from_secs(60))?;
    let (seen, line) = node.start_raw("demo-db.service")?;
    let closed = state.word != "unlocked" && seen == Outcome::Denied;
    let seen = if closed { Outcome::Denied } else { Outcome::Works };
    report.row(
        "refusal::verifier_unreachable",
        Outcome::Denied,
        seen,
        format!("{} {line}", state.reason),
    );

    stage.site().verifier.start()?;
    let node = stage.node()?;
    let state = node.wait_word("unlocked", Duration::from_secs(120))?;
    let (seen, line) = node.restart_expecting_start("demo-db.service")?;
    let seen = if state.word == "unlocked" {
        seen
    } else {
        Outcome::Denied
    };
    report.row(
        "release::after_the_verifier_is_back",
        Outcome::Works,
        seen,
        format!("{} {line}", state.word),
    );
    Ok(())
}
