//! Code of the host that runs before the image: an option ROM, and an EFI driver started by NVRAM. The image's own registers 4, 9, 11
//! and 12 stay as they are: PCR 2 alone shows it.

use std::fs;

use rempart_harness::efi::{BootPartition, LoadOption, Nvram, driver, option_rom};

use crate::{
    refused::Refused,
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let folder = stage.scratch("firmware-code")?;
    let esp = BootPartition::copy(&stage.image().esp(), &folder.join("esp.img"))?;
    esp.write("EFI/host/driver.efi", &driver("HostDriverRan"))?;
    let rom = folder.join("host.rom");
    fs::write(&rom, option_rom(&driver("HostRomRan")))?;
    let variables = folder.join("variables.fd");
    let mut nvram = Nvram::open(&stage.image().firmware("VARS"))?;
    nvram.load_options(
        "Driver",
        &[LoadOption {
            description: "Host".into(),
            path: r"\EFI\host\driver.efi".into(),
            data: Vec::new(),
        }],
    )?;
    nvram.write(&variables)?;
    let boot = Boot {
        esp: Some(esp.path().to_owned()),
        variables: Some(variables),
        option_rom: Some(rom),
        ..Boot::default()
    };
    let node = Refused::settle(stage.boot(boot)?)?;
    let ran = node
        .node()
        .sh("ls -d /sys/firmware/efi/efivars/Host*Ran-*; true")?
        .stdout;
    for trace in ["HostDriverRan", "HostRomRan"] {
        anyhow::ensure!(ran.contains(trace), "{trace} did not run: {ran}");
    }
    node.row(report, "host::firmware_code", &[2]);
    // An event names no path, only what was measured: one for the card's ROM, one for the driver, and each ran.
    let events = node
        .pcr(2)
        .unwrap_or_default()
        .matches("EV_EFI_BOOT_SERVICES_DRIVER, ")
        .count();
    for name in ["host::driver_of_the_host", "host::option_rom_of_the_host"] {
        let seen = if events == 2 {
            node.outcome(&[2])
        } else {
            Outcome::Broken
        };
        report.row(name, Outcome::Denied, seen, format!("PCR 2: {events} drivers measured"));
    }
    let image_alone = [4, 9, 11, 12].iter().all(|pcr| node.pcr(*pcr).is_none());
    report.row(
        "host::firmware_code_leaves_the_image_registers",
        Outcome::Works,
        if image_alone { Outcome::Works } else { Outcome::Broken },
        "PCR 4, 9, 11, 12 are as accepted: PCR 2 alone shows it",
    );
    Ok(())
}
