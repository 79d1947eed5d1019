//! A kernel argument that the host adds through SMBIOS takes effect, changes only PCR 9 and 12, and is refused.

use crate::{
    report::Report,
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let boot = Boot {
        smbios: vec!["io.systemd.stub.kernel-cmdline-extra=rempart.host_was_here=1".into()],
        ..Boot::default()
    };
    stage.expect_refused_boot(
        report,
        "refusal::host_adds_kernel_argument",
        boot,
        Some(("rempart.host_was_here", &["PCR 9", "PCR 12"])),
    )
}
