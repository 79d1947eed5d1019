//! The stage: the owner's side ([`Site`]), the image, and the node that most promises are played on.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use rempart_harness::{Change as ImageChange, Image, ImageRecipe, Tpm, VmBuilder};

pub use crate::site::base64;
use crate::{
    node::Node,
    report::{Outcome, Report},
    site::Site,
};

/// Longest time from power-on to a state that stays, under emulation on two cores.
const BOOT: Duration = Duration::from_secs(240);

/// What a boot is changed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// One byte of the command line in the UKI.
    CommandLine,
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
}

/// All of it.
pub struct Stage {
    site: Site,
    image: Image,
    tpm: Tpm,
    node: Option<Node>,
}

impl Stage {
    /// Brings up the owner's side and the image.
    pub fn set(debs: &[PathBuf], without_openbao: bool, report: &mut Report) -> anyhow::Result<Self> {
        report.heading("The owner's side");
        report.step("guest image: Debian 13, our package, erofs root under dm-verity, unified kernel image");
        let recipe = ImageRecipe {
            debs: debs.to_vec(),
            overlays: vec![attack_tool()?],
            command_line: String::new(),
        };
        let image = recipe.build().context("building the guest image")?;
        let tpm = Tpm::manufacture()?;
        let site = Site::bring_up(image.clone(), without_openbao, report)?;
        Ok(Self {
            site,
            image,
            tpm,
            node: None,
        })
    }

    /// The owner's side.
    pub fn site(&mut self) -> &mut Site {
        &mut self.site
    }

    /// The node that most promises are played on.
    pub fn node(&mut self) -> anyhow::Result<&mut Node> {
        self.node.as_mut().context("the node is not running")
    }

    /// Starts it.
    pub fn boot_the_node(&mut self, report: &mut Report) -> anyhow::Result<()> {
        report.step("booting the node: UEFI, TPM 2.0, measured");
        self.node = Some(self.boot(Boot::default())?);
        Ok(())
    }

    /// Stops it.
    pub fn stop_the_node(&mut self) {
        self.node = None;
    }

    /// Boots a machine and waits until it takes commands.
    pub fn boot(&mut self, boot: Boot) -> anyhow::Result<Node> {
        let node = self.boot_without_waiting(boot)?;
        node.wait_up(BOOT)?;
        Ok(node)
    }

    /// Boots a machine that may never take commands.
    pub fn boot_without_waiting(&mut self, boot: Boot) -> anyhow::Result<Node> {
        let change = match boot.change {
            Change::None => None,
            Change::CommandLine => Some(ImageChange::CommandLineByte),
            Change::Root => Some(ImageChange::RootByte(None)),
        };
        let image = match change {
            None => self.image.clone(),
            Some(change) => self
                .image
                .variant(&self.site.scratch(&format!("variant-{:?}", boot.change))?, &change)?,
        };
        let own = boot.other_tpm.then(Tpm::manufacture).transpose()?;
        let tpm = own.as_ref().unwrap_or(&self.tpm);
        let mut builder = VmBuilder::new(&image).tpm(tpm);
        for (guest, host) in self.site.forwards() {
            builder = builder.forward(guest, host);
        }
        for text in &boot.smbios {
            builder = builder.smbios(text);
        }
        for (name, text) in &boot.fw_cfg {
            builder = builder.fw_cfg(name, text);
        }
        Ok(Node::new(builder.start()?, own))
    }

    /// Boots a machine that must be refused: it comes up, the node locks with a line that names `why`, and no service starts.
    /// `took` is a word that must be on the running command line, so that a refusal for another reason does not count.
    pub fn expect_refused_boot(
        &mut self,
        report: &mut Report,
        name: &str,
        boot: Boot,
        expect: Option<(&str, &[&str])>,
    ) -> anyhow::Result<()> {
        let node = self.boot(boot)?;
        let state = node.wait_settled(BOOT)?;
        let (took, why) = expect.unwrap_or(("", &[]));
        let command_line = node.sh("cat /proc/cmdline")?.stdout;
        anyhow::ensure!(
            command_line.contains(took),
            "the host's change had no effect on the boot: {command_line}"
        );
        let findings = format!("{} {}", state.reason, state.status);
        let named = why.iter().all(|word| findings.contains(word));
        let idle = node
            .sh("systemctl is-active demo-db.service demo-web.service; true")?
            .stdout;
        let started = idle.lines().any(|line| line == "active");
        let areas = node.sh("ls /run/rempart/units 2>/dev/null; true")?.stdout;
        let seen = match (state.word.as_str(), named, started, areas.trim().is_empty()) {
            ("locked", true, false, true) => Outcome::Denied,
            ("unlocked", ..) | (_, _, true, _) | (_, _, _, false) => Outcome::Works,
            _ => Outcome::Broken,
        };
        report.row(name, Outcome::Denied, seen, state.reason);
        Ok(())
    }

    /// Keeps what helps to find out why a promise broke.
    pub fn keep_evidence(&mut self, name: &str) {
        let path = rempart_harness::cache_dir()
            .join("logs")
            .join(format!("scene-{name}.journal"));
        if let Ok(node) = self.node()
            && let Ok(out) = node.sh("journalctl -b --no-pager -o short-monotonic | tail -400")
            && std::fs::write(&path, out.stdout).is_ok()
        {
            eprintln!("  journal kept in {}", path.display());
        }
    }
}

/// The attack tool, as a tree over the guest's `/`.
fn attack_tool() -> anyhow::Result<PathBuf> {
    let tree = rempart_harness::cache_dir().join("attack-overlay");
    let folder = tree.join("usr/lib/rempart-test");
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(
        rempart_harness::program("rempart-attack")?,
        folder.join("rempart-attack"),
    )?;
    Ok(tree)
}
