//! systemd credentials from the host (SMBIOS type 11 and fw_cfg) that add units: nothing of them runs, and the boot
//! goes on; switched on again by a host-given kernel argument, the node is refused.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

fn with_credentials() -> Boot {
    let unit =
        |path: &str| format!("[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/touch {path}\n");
    let dropin = "[Unit]\nWants=host-evil.service\n";
    Boot {
        smbios: vec![
            format!(
                "io.systemd.credential.binary:systemd.extra-unit.host-evil.service={}",
                crate::stage::base64(unit("/run/host-was-here").as_bytes())
            ),
            format!(
                "io.systemd.credential.binary:systemd.unit-dropin.sysinit.target={}",
                crate::stage::base64(dropin.as_bytes())
            ),
        ],
        fw_cfg: vec![("opt/io.systemd.credentials/motd".into(), "host-was-here".into())],
        ..Boot::default()
    }
}

pub fn play_ignored(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.boot(with_credentials())?;
    let state = node.wait_settled(Duration::from_secs(180))?;
    let marks = node.sh("ls /run/host-was-here /run/credentials/@system 2>/dev/null; systemctl cat host-evil.service 2>/dev/null | head -3; true")?;
    let clean = state.word == "unlocked" && marks.stdout.trim().is_empty();
    let seen = if clean { Outcome::Ignored } else { Outcome::Works };
    report.row(
        "refusal::host_credential_is_ignored",
        Outcome::Ignored,
        seen,
        format!(
            "{}; traces of it: {:?} {}",
            state.word,
            marks.stdout.trim(),
            state.reason
        ),
    );
    Ok(())
}

pub fn play_switched_on(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let mut boot = with_credentials();
    boot.smbios
        .push("io.systemd.stub.kernel-cmdline-extra=systemd.import_credentials=yes".into());
    stage.expect_refused_boot(
        report,
        "refusal::host_credential_switched_on",
        boot,
        Some(("systemd.import_credentials=yes", &["PCR 9", "PCR 12"])),
    )
}
