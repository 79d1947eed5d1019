//! Under Secure Boot with the owner's key: a signed image attests once the policy names this state's PCR 7, an unsigned one does not
//! start, and what systemd-stub takes from a boot entry or the EFI variable SystemdOptions without Secure Boot it no longer takes.

use std::{fs, path::PathBuf, time::Duration};

use rempart_harness::efi::{BootPartition, Guid, LoadOption, Nvram, SecureBootKeys, utf16};

use crate::{
    refused::Refused,
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

const ROUND: Duration = Duration::from_secs(120);

/// Firmware with the keys, and a boot entry of the host's whose load options must not count.
fn boot(stage: &Stage, name: &str, signed: bool) -> anyhow::Result<Boot> {
    let folder = stage.scratch(name)?;
    let keys = SecureBootKeys::make(&folder)?;
    let mut nvram = Nvram::open(&stage.image().firmware("VARS"))?;
    keys.enrol(&mut nvram)?;
    nvram.set(
        Guid::SYSTEMD,
        "SystemdOptions",
        &utf16("systemd.setenv=HOST_VARIABLE=1"),
    )?;
    nvram.load_options(
        "Boot",
        &[LoadOption {
            description: "Host".into(),
            path: r"\EFI\BOOT\BOOTX64.EFI".into(),
            data: utf16(&format!("{} host_entry=1", stage.image().command_line()?)),
        }],
    )?;
    let variables = folder.join("variables.fd");
    nvram.write(&variables)?;
    let image = if signed {
        let out: PathBuf = folder.join("signed.efi");
        keys.sign(&stage.image().uki(), &out)?;
        out
    } else {
        stage.image().uki()
    };
    let esp = BootPartition::copy(&stage.image().esp(), &folder.join("esp.img"))?;
    esp.remove("EFI/BOOT/BOOTX64.EFI")?
        .write("EFI/BOOT/BOOTX64.EFI", &fs::read(image)?)?;
    Ok(Boot {
        esp: Some(esp.path().to_owned()),
        variables: Some(variables),
        boot_order_of_the_firmware: true,
        secure_boot: true,
        ..Boot::default()
    })
}

pub fn play_unsigned(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let boot = boot(stage, "secure-boot-unsigned", false)?;
    let node = stage.boot_without_waiting(boot)?;
    let line = node.wait_console(&["Access Denied", "Security Violation"], Duration::from_secs(90))?;
    let (seen, said) = match line {
        Some(line) if !node.comes_up(Duration::from_secs(5)) => (Outcome::Denied, line),
        Some(line) => (Outcome::Works, line),
        None => (Outcome::Broken, "the firmware said nothing about it".to_owned()),
    };
    report.row("secure_boot::unsigned_image", Outcome::Denied, seen, said);
    Ok(())
}

pub fn play_signed(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let boot = boot(stage, "secure-boot-signed", true)?;
    let node = Refused::settle(stage.boot(boot)?)?;
    // The policy is of the same image without Secure Boot: only its state differs, and that the stub starts the kernel past the
    // firmware's checks, which are what measures it: PCR 4 then holds the image alone.
    let others = [2, 3, 9, 11, 12, 13].iter().any(|pcr| node.pcr(*pcr).is_some());
    let seen = match node.outcome(&[4, 7]) {
        Outcome::Denied if others => Outcome::Broken,
        other => other,
    };
    report.row(
        "secure_boot::another_state_than_the_policy",
        Outcome::Denied,
        seen,
        node.reason(),
    );

    let took = node.node().sh("cat /proc/cmdline; systemctl show-environment")?.stdout;
    let host = ["host_entry=1", "HOST_VARIABLE"].iter().any(|word| took.contains(word));
    report.row(
        "secure_boot::load_options_of_the_host",
        Outcome::Ignored,
        if host { Outcome::Works } else { Outcome::Ignored },
        "a boot entry's options and SystemdOptions under Secure Boot",
    );

    let (pcr4, pcr7) = (node.register(4)?, node.register(7)?);
    stage
        .site()
        .install_policy_with(&[(4, pcr4.as_str()), (7, pcr7.as_str())])?;
    stage.site().clear_node()?;
    node.node().sh("rempart attest; true")?;
    let state = node.node().wait_word("unlocked", ROUND)?;
    let seen = if state.word == "unlocked" {
        Outcome::Works
    } else {
        Outcome::Denied
    };
    report.row(
        "secure_boot::signed_image_under_its_policy",
        Outcome::Works,
        seen,
        format!("{} {}", state.word, state.reason),
    );
    drop(node);
    stage.site().install_image_policy()
}
