//! A boot loader of the host's in front of the image, with an entry that adds arguments and an initrd. The image itself, and with it
//! PCR 11, stays the same.

use rempart_harness::efi::BootPartition;

use crate::{
    refused::Refused,
    report::Report,
    stage::{Boot, Stage},
};

/// Room for the image and a boot loader, MiB.
const PARTITION: u64 = 96;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let esp = stage.scratch("boot-loader")?.join("esp.img");
    let esp = BootPartition::empty(&esp, PARTITION)?;
    let options = format!("host_entry=1 {}", stage.image().command_line()?);
    esp.write("EFI/BOOT/BOOTX64.EFI", &std::fs::read(stage.image().boot_loader()?)?)?
        .write("EFI/demo/demo.efi", &std::fs::read(stage.image().uki())?)?
        .write("loader/loader.conf", b"timeout 0\ndefault host.conf\n")?
        .write(
            "loader/entries/host.conf",
            format!("title host\nefi /EFI/demo/demo.efi\noptions {options}\n").as_bytes(),
        )?;
    let boot = Boot {
        esp: Some(esp.path().to_owned()),
        smbios: vec!["io.systemd.boot.kernel-cmdline-extra=host_boot_loader=1".into()],
        ..Boot::default()
    };
    let node = Refused::settle(stage.boot(boot)?)?;
    anyhow::ensure!(
        node.command_line.contains("host_entry=1"),
        "the boot loader's entry had no effect on the boot: {}",
        node.command_line
    );
    node.row(report, "host::boot_loader_of_the_host", &[4, 9, 12]);
    node.way(report, "host::arguments_of_the_boot_loader", 12, "host_entry=1");
    Ok(())
}
