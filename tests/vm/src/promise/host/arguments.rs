//! A kernel argument that the host adds through SMBIOS takes effect, here to switch its credentials on again: PCR 9 and 12 show it, and
//! the node is refused.

use crate::{
    promise::host::given,
    refused::Refused,
    report::Report,
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let argument = "systemd.import_credentials=yes";
    let mut smbios = given::credentials();
    smbios.push(format!("io.systemd.stub.kernel-cmdline-extra={argument}"));
    let node = Refused::settle(stage.boot(Boot {
        smbios,
        ..Boot::default()
    })?)?;
    let took = node.node().sh("ls /run/host-credential-ran; true")?.stdout;
    anyhow::ensure!(
        node.command_line.contains(argument) && took.contains("host-credential-ran"),
        "the argument had no effect on the boot: {} {took}",
        node.command_line
    );
    // A machine without any other gift, for whoever must learn what no image predicts. SMBIOS strings are in no register.
    stage.reference = Some(node.register(1)?);
    node.row(report, "host::argument_by_smbios_with_credentials", &[9, 12]);
    node.way(report, "host::argument_by_smbios_is_shown", 12, argument);
    Ok(())
}
