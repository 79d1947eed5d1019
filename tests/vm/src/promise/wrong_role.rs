//! A unit under a role that the node does not have gets nothing and does not start.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    // Baked into the image: Role=payroll, which exists in the vault but was not given to this node.
    let (seen, line) = stage.node()?.start_expecting_refusal("demo-payroll.service")?;
    report.row("refusal::wrong_role", Outcome::Denied, seen, line);
    Ok(())
}
