//! The other half of `ignored`: in an image without the arguments that `rempart policy predict` demands, the same gifts of the host
//! do work, without any other register than the image's own. So predict refuses such an image, naming each risk.

use crate::{
    promise::host::given::{self, WAYS, everything},
    refused::Refused,
    report::{Outcome, Report},
    stage::{Change, Stage},
};

/// Argument, and the risk's name in predict's refusal.
const DEMANDED: [(&str, &str); 5] = [
    ("systemd.import_credentials=no", "host-credentials"),
    ("SYSTEMD_EFI_OPTIONS=", "efi-options"),
    ("systemd.setenv=SYSTEMD_EFI_OPTIONS=", "efi-options"),
    ("systemd.gpt_auto=no", "gpt-auto"),
    ("nohibernate", "hibernation"),
];

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let mut boot = everything(stage)?;
    boot.change = Change::Without(DEMANDED.iter().map(|(word, _)| (*word).to_owned()).collect());
    let node = Refused::settle(stage.boot(boot)?)?;
    // The unprotected image is another image: the policy does not name it.
    node.row(report, "host::unprotected_image", &[4, 9, 11]);
    // The kernel offers no hibernation while a process has secret memory, and the agent is in it whole.
    node.node().sh("systemctl stop rempartd.service")?;
    for way in WAYS.iter().filter(|way| way.works_without_arguments) {
        let found = node.node().sh(&format!("{{ {}; }}; true", way.effect))?.stdout;
        let seen = if found.trim().is_empty() {
            Outcome::Ignored
        } else {
            Outcome::Works
        };
        let name = format!("host::{}_works_without_the_argument", way.name);
        report.row(name, Outcome::Works, seen, found.trim());
    }
    let seen = match given::has_shell_on_console(node.node())? {
        true => Outcome::Works,
        false => Outcome::Ignored,
    };
    report.row(
        "host::shell_on_the_console_works_without_the_argument",
        Outcome::Works,
        seen,
        "typed on the console: root answers",
    );
    Ok(())
}

/// Needs no boot: each argument alone is demanded, and its risk can be accepted by name.
pub fn play_predict(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let base = stage.image().clone();
    for (number, (word, risk)) in DEMANDED.iter().enumerate() {
        let folder = stage.scratch(&format!("without-{number}"))?;
        let change = rempart_harness::Change::Without(vec![(*word).to_owned()]);
        let image = base.variant(&folder, &change)?;
        let refused = stage.site().predict(&image, &[]);
        let accepted = stage.site().predict(&image, &["--accept", risk]);
        let (seen, said) = match (refused, accepted) {
            (Err(line), Ok(_)) if line.to_string().contains(risk) => (Outcome::Denied, line.to_string()),
            (Err(line), accepted) => (
                Outcome::Broken,
                format!("{line}; accepted by name: {}", accepted.is_ok()),
            ),
            (Ok(_), _) => (Outcome::Works, "a policy was made".to_owned()),
        };
        let said = said.lines().last().unwrap_or_default().to_owned();
        report.row(format!("predict::image_without {word}"), Outcome::Denied, seen, said);
    }
    Ok(())
}
