//! A second machine (another TPM) with the same image and the same node name is refused: the first key keeps the name.

use crate::{
    report::Report,
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let boot = Boot {
        other_tpm: true,
        ..Boot::default()
    };
    stage.expect_refused_boot(report, "refusal::second_machine_same_name", boot, Some(("", &["name"])))
}
