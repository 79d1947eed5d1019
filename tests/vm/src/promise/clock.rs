//! Root sets the clock back: how old a result or a secret is, no clock says that can be set, so a unit starts as before. A clock before all certificates
//! is `host::clock`.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

const UNIT: &str = "demo-db.service";

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    node.sh("cut -d. -f1 /proc/uptime >/run/up; date +%s >/run/now; date -s '-90 seconds'")?;
    let seen = node.restart_raw(UNIT);
    // Right again, by the time that has passed meanwhile.
    node.sh("date -s @$(($(cat /run/now) + $(cut -d. -f1 /proc/uptime) - $(cat /run/up)))")?;
    let (seen, line) = seen?;
    report.row("release::with_the_clock_set_back", Outcome::Works, seen, line);
    let (seen, line) = node.restart_expecting_start(UNIT)?;
    report.row("release::with_the_clock_right_again", Outcome::Works, seen, line);
    Ok(())
}
