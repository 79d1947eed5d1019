//! The host's clock decides the guest's at boot. Too early or too late, the node refuses its Verifier's certificate in words that
//! name the clock's problem; nothing is let in by it, because freshness is the Verifier's challenge and not a time of the node.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

pub fn play_future(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    play(stage, report, "host::clock_in_the_future", "2049-01-01T00:00:00")
}

pub fn play_past(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    play(stage, report, "host::clock_in_the_past", "2001-01-01T00:00:00")
}

fn play(stage: &mut Stage, report: &mut Report, name: &str, base: &str) -> anyhow::Result<()> {
    let node = stage.boot(Boot::default().give(&["-rtc", &format!("base={base}")]))?;
    let state = node.wait_reason(Duration::from_secs(240))?;
    let clock = node.sh("date -u +%Y-%m-%d")?.stdout;
    let said = format!("guest's clock {}: {}", clock.trim(), state.reason);
    let explained = ["certificate", "expired", "not valid yet", "clock"]
        .iter()
        .any(|word| state.reason.to_lowercase().contains(word));
    let seen = match (state.word.as_str(), explained) {
        ("unlocked", _) => Outcome::Works,
        (_, true) => Outcome::Denied,
        (_, false) => Outcome::Broken,
    };
    report.row(name, Outcome::Denied, seen, said);
    Ok(())
}
