//! A table of the host's, whose methods the kernel's interpreter runs: PCR 1 alone shows it. A policy that was only predicted does not
//! judge PCR 1, which depends on the machine's devices; one that was learnt does.

use std::{fs, process::Command};

use rempart_harness::run;

use crate::{
    refused::Refused,
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

/// A device with a method.
const TABLE: &str = r#"DefinitionBlock ("host.aml", "SSDT", 2, "HOST", "HOSTSSDT", 1)
{ Scope (\_SB) { Device (HOST) { Name (_HID, "HOST0001") Method (_STA) { Return (0x0F) } } } }
"#;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let Some(learnt) = stage.reference.clone() else {
        report.skip(
            "host::acpi_table_of_the_host",
            "PCR 1 was not learnt: host_arguments was not played",
        );
        return Ok(());
    };
    let folder = stage.scratch("acpi-table")?;
    fs::write(folder.join("host.asl"), TABLE)?;
    run(Command::new("iasl")
        .arg("-p")
        .arg(folder.join("host"))
        .arg(folder.join("host.asl")))?;
    let table = format!("file={}", folder.join("host.aml").display());
    let node = Refused::settle(stage.boot(Boot::default().give(&["-acpitable", &table]))?)?;
    let device = node.node().sh("ls -d /sys/bus/acpi/devices/HOST0001:00; true")?.stdout;
    anyhow::ensure!(!device.is_empty(), "the kernel did not load the table");
    report.row(
        "host::acpi_table_under_a_predicted_policy",
        Outcome::NotStopped,
        match node.word() {
            "unlocked" => Outcome::NotStopped,
            _ => Outcome::Denied,
        },
        format!("{} {}; {}", node.word(), node.reason(), device.trim()),
    );

    stage.site().install_policy_with(&[(1, learnt.as_str())])?;
    node.node().sh("rempart attest; true")?;
    let node = node.again()?;
    node.row(report, "host::acpi_table_under_a_learnt_policy", &[1]);
    drop(node);
    stage.site().install_image_policy()
}
