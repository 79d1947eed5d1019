//! Disks of the host's: a GUID partition table with well-known types, and a copy of an image's EFI system partition with files added or replaced, by mtools: no mounts, no root.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run;

/// The host's own version of the boot partition.
#[derive(Debug)]
pub struct BootPartition {
    path: PathBuf,
}

impl BootPartition {
    /// A copy of `original` at `path`.
    pub fn copy(original: &Path, path: &Path) -> Result<Self> {
        fs::copy(original, path).with_context(|| format!("copying {}", original.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// An empty one of `mebibytes`.
    pub fn empty(path: &Path, mebibytes: u64) -> Result<Self> {
        let file = fs::File::create(path)?;
        file.set_len(mebibytes << 20)?;
        run(Command::new("mkfs.vfat").args(["-n", "ESP"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes a file, with its folders; `name` has slashes and no first one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<&Self> {
        let mut folder = String::new();
        for part in Path::new(name).parent().into_iter().flat_map(Path::iter) {
            folder = format!("{folder}/{}", part.to_string_lossy());
            // There already: mtools says so and fails, which is as good.
            let _ = self.tool("mmd").arg(format!("::{folder}")).output();
        }
        let source = self.path.with_extension("part");
        fs::write(&source, bytes)?;
        run(self.tool("mcopy").arg("-o").arg(&source).arg(format!("::/{name}")))?;
        fs::remove_file(source)?;
        Ok(self)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<&Self> {
        run(self.tool("mdel").arg(format!("::/{name}")))?;
        Ok(self)
    }

    /// The file with the volume.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&self.path);
        command
    }
}

/// A disk whose partitions have these types (sfdisk's names of the Discoverable Partitions Specification, or GUIDs), 32 MiB each.
pub fn partitioned_disk(path: &Path, types: &[&str]) -> Result<()> {
    let file = fs::File::create(path)?;
    file.set_len((types.len() as u64 + 1) << 25)?;
    let mut table = "label: gpt\n".to_owned();
    for kind in types {
        table.push_str(&format!("size=32M, type={kind}\n"));
    }
    let mut child = Command::new("sfdisk")
        .arg("-q")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("sfdisk; run ./x deps")?;
    child.stdin.take().context("its input")?.write_all(table.as_bytes())?;
    ensure!(child.wait()?.success(), "sfdisk refused the partition table");
    Ok(())
}
