//! One power-on: the image as it is or changed, and everything that whoever owns the hardware hands to it.

use std::path::{Path, PathBuf};

use rempart_harness::{Change as ImageChange, Image, Tpm, VmBuilder};

/// What the image is changed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// One byte of the command line in the UKI.
    CommandLine,
    /// Words that the command line in the UKI lacks.
    Without(Vec<String>),
    /// One byte of the root file system.
    Root,
}

/// One power-on.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// Changed part of the image.
    pub change: Change,
    /// SMBIOS type 11 strings.
    pub smbios: Vec<String>,
    /// fw_cfg entries: name and text.
    pub fw_cfg: Vec<(String, String)>,
    /// Another TPM than the node's.
    pub other_tpm: bool,
    /// Another boot partition.
    pub esp: Option<PathBuf>,
    /// Another variable store of the firmware.
    pub variables: Option<PathBuf>,
    /// The variables say what is booted, not the host's order of disks.
    pub boot_order_of_the_firmware: bool,
    /// No root disk.
    pub without_root: bool,
    /// An option ROM on the network card.
    pub option_rom: Option<PathBuf>,
    /// More disks.
    pub disks: Vec<PathBuf>,
    /// Any other arguments of QEMU.
    pub qemu: Vec<String>,
    /// Firmware that enforces Secure Boot.
    pub secure_boot: bool,
}

impl Boot {
    /// The image to boot: `image` itself, or a changed copy in `scratch`.
    pub fn image(&self, image: &Image, scratch: &Path) -> anyhow::Result<Image> {
        let change = match &self.change {
            Change::None => return Ok(image.clone()),
            Change::CommandLine => ImageChange::CommandLineByte,
            Change::Without(words) => ImageChange::Without(words.clone()),
            Change::Root => ImageChange::RootByte(None),
        };
        image.variant(scratch, &change)
    }

    /// The machine, not yet started.
    pub fn machine<'a>(&self, image: &'a Image, tpm: &'a Tpm, forwards: Vec<(u16, u16)>) -> VmBuilder<'a> {
        let mut builder = VmBuilder::new(image).tpm(tpm);
        for (guest, host) in forwards {
            builder = builder.forward(guest, host);
        }
        for text in &self.smbios {
            builder = builder.smbios(text);
        }
        for (name, text) in &self.fw_cfg {
            builder = builder.fw_cfg(name, text);
        }
        if let Some(path) = &self.esp {
            builder = builder.esp(path);
        }
        if let Some(path) = &self.variables {
            builder = builder.variables(path);
        }
        if self.boot_order_of_the_firmware {
            builder = builder.boot_order_of_the_firmware();
        }
        if self.without_root {
            builder = builder.without_root();
        }
        if let Some(path) = &self.option_rom {
            builder = builder.option_rom(path);
        }
        for path in &self.disks {
            builder = builder.disk(path);
        }
        if self.secure_boot {
            builder = builder.secure_boot();
        }
        builder.qemu(&self.qemu.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Adds arguments of QEMU.
    pub fn give(mut self, arguments: &[&str]) -> Self {
        self.qemu.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }
}
