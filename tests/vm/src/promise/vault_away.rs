//! OpenBao sealed or gone: no secret, one line, the service does not start; back again: it starts.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    if stage.site().bao.is_none() {
        report.skip("refusal::vault_sealed", "no OpenBao on this machine");
        report.skip("refusal::vault_unreachable", "no OpenBao on this machine");
        return Ok(());
    }
    stage.site().bao()?.seal()?;
    let (seen, line) = stage.node()?.restart_expecting_refusal("demo-db.service")?;
    report.row("refusal::vault_sealed", Outcome::Denied, seen, line);

    stage.site().bao()?.stop_process();
    let (seen, line) = stage.node()?.restart_expecting_refusal("demo-db.service")?;
    report.row("refusal::vault_unreachable", Outcome::Denied, seen, line);

    stage.site().bao()?.run_process()?;
    stage.site().bao()?.unseal()?;
    let seen = stage.node()?.restart_expecting_start("demo-db.service")?;
    report.row("release::after_the_vault_is_back", Outcome::Works, seen.0, seen.1);
    Ok(())
}
