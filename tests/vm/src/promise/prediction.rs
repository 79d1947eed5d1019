//! What `rempart policy predict` computes from the image alone is what the machine's TPM holds, and what systemd-measure says.

use rempart_harness::Image;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

/// Registers that a prediction is for.
const PREDICTED: [u8; 8] = [2, 3, 4, 7, 9, 11, 12, 13];

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let image = stage.image().clone();
    let text = stage.site().predict(&image, &[])?;
    let registers = stage
        .node()?
        // By the kernel: the TPM itself is the agent's alone.
        .sh("cd /sys/class/tpm/tpm0/pcr-sha256 && grep -H . *")?
        .stdout;
    for pcr in PREDICTED {
        let Some(accepted) = values(&text, pcr) else {
            report.skip(&format!("predict::pcr{pcr}_equals_the_boot"), "not predicted");
            continue;
        };
        let found = register(&registers, pcr);
        let seen = if accepted.contains(&found) {
            Outcome::Works
        } else {
            Outcome::Broken
        };
        report.row(
            format!("predict::pcr{pcr}_equals_the_boot"),
            Outcome::Works,
            seen,
            format!("{found}, predicted {}", accepted.join(" or ")),
        );
    }
    systemd_measure(&image, report, &text)
}

/// Each value of PCR 11 that we accept is one that systemd-measure computes for a phase, and the boot's own is its last.
fn systemd_measure(image: &Image, report: &mut Report, text: &str) -> anyhow::Result<()> {
    let phases = image.measured_by_systemd("sha256")?;
    let ours = values(text, 11).unwrap_or_default();
    let after: Vec<String> = phases
        .iter()
        .filter(|(path, _)| path.contains(":sysinit"))
        .map(|(_, value)| value.clone())
        .collect();
    let same = !after.is_empty() && ours.iter().all(|value| after.contains(value)) && ours.len() == after.len();
    report.row(
        "predict::pcr11_agrees_with_systemd_measure",
        Outcome::Works,
        if same { Outcome::Works } else { Outcome::Broken },
        format!("{} phases computed by it, {} accepted by us", phases.len(), ours.len()),
    );
    Ok(())
}

/// The digits of `pcrN = ["…", …]` in a policy; nothing when it has no such line.
fn values(policy: &str, pcr: u8) -> Option<Vec<String>> {
    let (_, rest) = policy.split_once(&format!("\npcr{pcr} = ["))?;
    let list = rest.split(']').next()?;
    Some(
        list.split('"')
            .filter(|part| part.len() >= 64)
            .map(str::to_lowercase)
            .collect(),
    )
}

/// One value out of the kernel's table.
fn register(answer: &str, pcr: u8) -> String {
    let line = answer.lines().find_map(|line| {
        let (index, value) = line.split_once(':')?;
        (index.trim().parse() == Ok(pcr)).then(|| value.trim().to_lowercase())
    });
    line.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_and_the_kernels_table_are_read() {
        let digits = "ab".repeat(32);
        let policy =
            format!("name = \"x\"\npcr1 = [\"{digits}\"]\npcr11 = [\n    \"{digits}\",\n    \"{digits}\",\n]\n");
        assert_eq!(values(&policy, 11).map(|list| list.len()), Some(2));
        assert_eq!(values(&policy, 7), None);
        let answer = format!("1:00\n11:{}\n", digits.to_uppercase());
        assert_eq!(register(&answer, 11), digits);
    }
}
