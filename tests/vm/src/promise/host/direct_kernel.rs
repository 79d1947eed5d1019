//! QEMU hands the image and a command line to the firmware itself (`-kernel`, `-append`): the same image, other load options.

use crate::{
    refused::Refused,
    report::Report,
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let image = stage.image().uki().display().to_string();
    let options = format!("{} host_append=1", stage.image().command_line()?);
    // The hypervisor's kernel comes first by itself.
    let boot = Boot {
        boot_order_of_the_firmware: true,
        ..Boot::default()
    }
    .give(&["-kernel", &image, "-append", &options]);
    let node = Refused::settle(stage.boot(boot)?)?;
    anyhow::ensure!(
        node.command_line.contains("host_append=1"),
        "QEMU's command line had no effect on the boot: {}",
        node.command_line
    );
    node.row(report, "host::kernel_given_by_the_hypervisor", &[9, 12]);
    Ok(())
}
