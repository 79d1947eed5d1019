//! Files that the host puts beside the UKI or in the boot loader's folder: systemd-stub hands them to the kernel and to systemd, and
//! says so in PCR 12 (arguments, credentials, configuration, initrds) and 13 (system extensions); addons are code, so PCR 4 as well.

use std::process::Command;

use rempart_harness::{efi::BootPartition, run};

use crate::{
    refused::Refused,
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

/// systemd-stub's folder for what belongs to one image.
const BESIDE: &str = "EFI/BOOT/BOOTX64.EFI.extra.d";

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let folder = stage.scratch("boot-partition")?;
    let esp = BootPartition::copy(&stage.image().esp(), &folder.join("esp.img"))?;
    let addon = |what: &str, value: &str| -> anyhow::Result<Vec<u8>> {
        let out = folder.join("addon.efi");
        run(Command::new(rempart_harness::repository().join("tests/image/addon"))
            .arg(format!("--{what}={value}"))
            .arg(&out))?;
        Ok(std::fs::read(out)?)
    };
    let archive = folder.join("host.cpio");
    std::fs::write(&archive, empty_archive())?;
    esp.write(&format!("{BESIDE}/host.addon.efi"), &addon("cmdline", "host_addon=1")?)?
        .write(
            "loader/addons/global.addon.efi",
            &addon("cmdline", "host_global_addon=1")?,
        )?
        .write(
            &format!("{BESIDE}/initrd.addon.efi"),
            &addon("initrd", &archive.display().to_string())?,
        )?
        .write(&format!("{BESIDE}/host.cred"), b"host-was-here\n")?
        .write("loader/credentials/global.cred", b"host-was-here\n")?
        .write(&format!("{BESIDE}/host.confext.raw"), &[0; 4096])?
        .write(&format!("{BESIDE}/host.sysext.raw"), &[0; 4096])?
        .write("loader/loader.conf", b"timeout 0\ndefault host.conf\n")?
        .write(
            "loader/entries/host.conf",
            b"title host\nefi /EFI/BOOT/BOOTX64.EFI\noptions host_entry=1\n",
        )?
        .write("startup.nsh", b"\\EFI\\BOOT\\BOOTX64.EFI host_shell=1\r\n")?;
    let boot = Boot {
        esp: Some(esp.path().to_owned()),
        ..Boot::default()
    };
    let node = Refused::settle(stage.boot(boot)?)?;
    anyhow::ensure!(
        node.command_line.contains("host_addon=1") && node.command_line.contains("host_global_addon=1"),
        "the addons had no effect on the boot: {}",
        node.command_line
    );
    node.row(report, "host::files_on_the_boot_partition", &[4, 9, 12, 13]);
    // Each has an event of its own; a register can only be extended, so each alone keeps it from its accepted value.
    node.way(report, "host::addon_beside_the_image", 12, "host_addon=1");
    node.way(report, "host::addon_for_all_images", 12, "host_global_addon=1");
    node.way(report, "host::addon_is_code", 4, "EV_EFI_BOOT_SERVICES_APPLICATION");
    node.way(report, "host::initrd_in_an_addon", 12, "initrd.addon.efi");
    node.way(report, "host::credential_beside_the_image", 12, "\"Credentials initrd");
    node.way(
        report,
        "host::credential_for_all_images",
        12,
        "Global credentials initrd",
    );
    node.way(
        report,
        "host::configuration_extension",
        12,
        "Configuration extension initrd",
    );
    node.way(report, "host::system_extension", 13, "System extension initrd");
    let read = ["host_entry=1", "host_shell=1"]
        .iter()
        .any(|word| node.command_line.contains(word));
    report.row(
        "host::boot_loader_files_without_a_boot_loader",
        Outcome::Ignored,
        if read { Outcome::Works } else { Outcome::Ignored },
        "loader.conf, an entry and startup.nsh: firmware starts the image without reading them",
    );
    Ok(())
}

/// A newc archive with nothing in it.
fn empty_archive() -> Vec<u8> {
    let mut archive = b"070701".to_vec();
    for field in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0] {
        archive.extend(format!("{field:08x}").into_bytes());
    }
    archive.extend(b"TRAILER!!!\0\0\0\0");
    archive.resize(512, 0);
    archive
}
