//! The guest image, made by the scripts in `tests/image`, and changed copies of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{repository, run};

/// What goes into an image on top of Debian and `tests/image/overlay`.
#[derive(Debug, Clone, Default)]
pub struct ImageRecipe {
    /// Packages to install.
    pub debs: Vec<PathBuf>,
    /// Trees copied over `/`.
    pub overlays: Vec<PathBuf>,
    /// Text added to the measured command line.
    pub command_line: String,
}

/// A built image: a folder with root.img, uki.efi, esp.img, cmdline, firmware.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
}

/// One change that a measured boot must notice.
#[derive(Debug, Clone)]
pub enum Change {
    /// Text added to the command line of the UKI.
    CommandLine(String),
    /// One byte of the command line, without any effect on what boots.
    CommandLineByte,
    /// The command line of the UKI without these words.
    Without(Vec<String>),
    /// One flipped byte of the root file system at this offset; `None` for its superblock.
    RootByte(Option<u64>),
}

impl ImageRecipe {
    /// Builds it, or finds it in the cache when nothing changed.
    pub fn build(&self) -> Result<Image> {
        let mut command = Command::new(repository().join("tests/image/assemble"));
        for deb in &self.debs {
            command.arg("--deb").arg(deb);
        }
        for tree in &self.overlays {
            command.arg("--overlay").arg(tree);
        }
        if !self.command_line.is_empty() {
            command.arg("--cmdline").arg(&self.command_line);
        }
        Ok(Image {
            dir: run(&mut command)?.into(),
        })
    }
}

impl Image {
    /// An image that is already there.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// A copy in `out` with one thing changed; unchanged parts are links.
    pub fn variant(&self, out: &Path, change: &Change) -> Result<Self> {
        let mut command = Command::new(repository().join("tests/image/variant"));
        command.arg(&self.dir).arg(out);
        match change {
            Change::CommandLine(text) => command.arg("cmdline").arg(text),
            Change::CommandLineByte => command.arg("cmdline-byte"),
            Change::Without(words) => command.arg("without").args(words),
            Change::RootByte(None) => command.arg("root-byte"),
            Change::RootByte(Some(offset)) => command.arg("root-byte").arg(offset.to_string()),
        };
        run(&mut command)?;
        Ok(Self { dir: out.to_owned() })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The unified kernel image that is measured.
    #[must_use]
    pub fn uki(&self) -> PathBuf {
        self.dir.join("uki.efi")
    }

    /// The erofs root with its dm-verity tree.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.img")
    }

    /// The EFI system partition with the UKI.
    #[must_use]
    pub fn esp(&self) -> PathBuf {
        self.dir.join("esp.img")
    }

    /// systemd-boot of the guest's own Debian.
    pub fn boot_loader(&self) -> Result<PathBuf> {
        let firmware = self.firmware("CODE").canonicalize()?;
        let tools = firmware.ancestors().nth(4).context("the tools of the image")?;
        Ok(tools.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
    }

    /// PCR 11 after each boot phase as systemd-measure computes it: path of phases, digits.
    pub fn measured_by_systemd(&self, bank: &str) -> Result<Vec<(String, String)>> {
        let mut command = Command::new(repository().join("tests/image/measure"));
        let lines = run(command.arg(self.uki()).arg(bank))?;
        let pairs = lines.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(path, value)| (path.to_owned(), value.to_owned())).collect())
    }

    /// The measured command line.
    pub fn command_line(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("cmdline"))?)
    }

    /// OVMF's `CODE` or its empty variable store, `VARS`.
    #[must_use]
    pub fn firmware(&self, part: &str) -> PathBuf {
        self.dir.join(format!("OVMF_{part}.fd"))
    }
}
