//! Configuration space of the first PCI device: writes the byte that is there (cache line size).

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    target::Target,
};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PCI_CONFIG",
    title: "configuration space of a PCI device for writing: a device can be told to write memory",
    source: "sysfs-bus-pci",
    hook: "locked_down",
    scope: Scope::Machine,
    recorded_as: "PCI",
    stopped: true,
    note: "",
    attempt,
};

/// PCI_CACHE_LINE_SIZE: has no effect on PCI Express.
const HARMLESS: u64 = 0x0c;

fn attempt(_target: &Target) -> Attempt {
    let first = fs::read_dir("/sys/bus/pci/devices").step("list PCI devices")?.next();
    let device = first
        .ok_or_else(|| Failure::other("no PCI device"))?
        .step("list PCI devices")?;
    let path = device.path().join("config");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .step("open config")?;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, HARMLESS).step("read config")?;
    file.write_all_at(&byte, HARMLESS).step("write config")?;
    Ok(path.display().to_string())
}
