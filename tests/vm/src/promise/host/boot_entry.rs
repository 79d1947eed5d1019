//! A boot entry in NVRAM whose load options replace the image's command line: systemd-stub takes them when Secure Boot is off.

use rempart_harness::efi::{LoadOption, Nvram, utf16};

use crate::{
    refused::Refused,
    report::Report,
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let variables = stage.scratch("boot-entry")?.join("variables.fd");
    let command_line = format!(
        "host_entry=1 {} systemd.import_credentials=yes",
        stage.image().command_line()?
    );
    let mut nvram = Nvram::open(&stage.image().firmware("VARS"))?;
    nvram.load_options(
        "Boot",
        &[LoadOption {
            description: "Host".into(),
            path: r"\EFI\BOOT\BOOTX64.EFI".into(),
            data: utf16(&command_line),
        }],
    )?;
    nvram.write(&variables)?;
    let boot = Boot {
        variables: Some(variables),
        boot_order_of_the_firmware: true,
        ..Boot::default()
    };
    let node = Refused::settle(stage.boot(boot)?)?;
    anyhow::ensure!(
        node.command_line.contains("host_entry=1"),
        "the boot entry's options had no effect on the boot: {}",
        node.command_line
    );
    node.row(report, "host::boot_entry_with_load_options", &[9, 12]);
    node.way(report, "host::load_options_are_shown", 12, "host_entry=1");
    Ok(())
}
