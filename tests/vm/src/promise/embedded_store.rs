//! Without a vault: the same units, from the Verifier's own store; a role that the node lacks is refused there too.

use std::time::Duration;

use crate::{
    promise::break_glass,
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    break_glass::lift(stage, "files")?;
    let node = stage.node()?;
    node.sh(
        "mkdir -p /etc/rempart/conf.d && printf '[vault]\\nkind = \"verifier\"\\n' >/etc/rempart/conf.d/50-store.toml",
    )?;
    node.restart_agent()?;
    node.sh("rempart break-glass end")?;
    let state = node.wait_word("unlocked", Duration::from_secs(120))?;
    let (seen, line) = node.restart_expecting_start("demo-db.service")?;
    report.row(
        "release::from_the_verifiers_store",
        Outcome::Works,
        seen,
        format!("{} {line}", state.word),
    );
    let (seen, line) = node.start_expecting_refusal("demo-payroll.service")?;
    report.row(
        "refusal::wrong_role_in_the_verifiers_store",
        Outcome::Denied,
        seen,
        line,
    );
    Ok(())
}
