//! The stage: the owner's side ([`Site`]), the image, and the node that most promises are played on.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use rempart_harness::{Image, ImageRecipe, Tpm};

pub use crate::boot::{Boot, Change};
pub use crate::site::base64;
use crate::{
    node::Node,
    report::{Outcome, Report},
    site::Site,
};

/// Longest time from power-on to a state that stays, under emulation on two cores.
const BOOT: Duration = Duration::from_secs(240);

/// All of it.
pub struct Stage {
    site: Site,
    image: Image,
    tpm: Tpm,
    node: Option<Node>,
    boots: u32,
    /// PCR 1 of a machine that was given nothing, once it was seen.
    pub reference: Option<String>,
}

impl Stage {
    /// Brings up the owner's side and the image.
    pub fn set(debs: &[PathBuf], without_openbao: bool, report: &mut Report) -> anyhow::Result<Self> {
        report.heading("The owner's side");
        report.step("guest image: Debian 13, our package, erofs root under dm-verity, unified kernel image");
        let recipe = ImageRecipe {
            debs: debs.to_vec(),
            overlays: vec![test_tree()?],
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
            boots: 0,
            reference: None,
        })
    }

    /// The owner's side.
    pub fn site(&mut self) -> &mut Site {
        &mut self.site
    }

    /// The image that the policy names.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// A new folder for what one boot is given.
    pub fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.site.scratch(name)
    }

    /// The node that most promises are played on.
    pub fn node(&mut self) -> anyhow::Result<&mut Node> {
        self.node.as_mut().context("the node is not running")
    }

    /// Starts it.
    pub fn boot_the_node(&mut self, boot: Boot, report: &mut Report) -> anyhow::Result<()> {
        report.step("booting the node: UEFI, TPM 2.0, measured");
        self.node = Some(self.boot(boot)?);
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
        self.boots += 1;
        // A boot that was refused before is drift, and latched: each promise starts from a node that may attest.
        self.site.clear_node()?;
        let scratch = self.site.scratch(&format!("boot-{}", self.boots))?;
        let image = boot.image(&self.image, &scratch)?;
        let own = boot.other_tpm.then(Tpm::manufacture).transpose()?;
        let tpm = own.as_ref().unwrap_or(&self.tpm);
        let machine = boot.machine(&image, tpm, self.site.forwards());
        Ok(Node::new(machine.start()?, own))
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

/// The key that signs break-glass tokens of the test's machines.
pub fn owners_key() -> PathBuf {
    rempart_harness::cache_dir().join("break-glass").join("key")
}

/// Made once: its public half is in the image, and measured with it.
fn make_owners_key() -> anyhow::Result<String> {
    let key = owners_key();
    if !key.exists() {
        std::fs::create_dir_all(key.parent().context("a folder")?)?;
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"])
            .arg(&key)
            .status()?;
        anyhow::ensure!(made.success(), "ssh-keygen makes no key");
    }
    Ok(std::fs::read_to_string(key.with_extension("pub"))?)
}

/// A wrapped unit whose program never looks at its secret: a copy of that is nobody's but ours or the kernel's.
const IDLE: [(&str, &str); 2] = [
    (
        "usr/lib/systemd/system/demo-idle.service",
        "[Unit]\nDescription=A program that does not use its secret (wrapped)\n\n[Service]\nExecStart=/usr/bin/sleep infinity\n",
    ),
    (
        "etc/systemd/system/demo-idle.service.d/50-rempart.conf",
        "[X-Rempart]\nWrap=yes\nRole=idle\nSecret=VALUE=kv/idle#value\nDeliver=getenv\n",
    ),
];

/// The attack tool, the owner's public key and a unit, as a tree over the guest's `/`.
fn test_tree() -> anyhow::Result<PathBuf> {
    let tree = rempart_harness::cache_dir().join("attack-overlay");
    let folder = tree.join("usr/lib/rempart-test");
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(
        rempart_harness::program("rempart-attack")?,
        folder.join("rempart-attack"),
    )?;
    let configuration = tree.join("etc/rempart");
    std::fs::create_dir_all(&configuration)?;
    std::fs::write(configuration.join("break-glass.keys"), make_owners_key()?)?;
    for (path, text) in IDLE {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(tree)
}
