//! One changed byte of the command line in the UKI, and one of the root file system.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::{Boot, Change, Stage},
};

pub fn play_command_line(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let boot = Boot {
        change: Change::CommandLine,
        ..Boot::default()
    };
    stage.expect_refused_boot(
        report,
        "refusal::changed_command_line",
        boot,
        Some(("", &["PCR 4", "PCR 11"])),
    )
}

/// A changed first block: the machine must not come up at all, or come up without the block; it never unlocks.
pub fn play_root(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.boot_without_waiting(Boot {
        change: Change::Root,
        ..Boot::default()
    })?;
    let said = node.wait_console(
        &["device-mapper: verity", "verity: ", "Failed to mount", "corrupted"],
        Duration::from_secs(150),
    )?;
    // Twice as long as a good machine takes from there.
    let came_up = node.comes_up(Duration::from_secs(40));
    let (seen, said) = match (said, came_up) {
        (Some(line), false) => (Outcome::Denied, line),
        (line, up) => (
            Outcome::Broken,
            format!("up: {up}, console: {}", line.unwrap_or_default()),
        ),
    };
    report.row("refusal::changed_root", Outcome::Denied, seen, said);
    Ok(())
}
