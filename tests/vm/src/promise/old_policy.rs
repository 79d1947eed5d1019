//! A policy whose counter is below the highest accepted one is refused by the Verifier.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let (good, good_counter) = stage.site().image_policy(&[])?;
    let old = stage.site().with_counter(&good, good_counter.saturating_sub(1))?;
    let (seen, line) = stage.site().install_policy(&old)?;
    report.row("refusal::old_policy_counter", Outcome::Denied, seen, line);
    Ok(())
}
