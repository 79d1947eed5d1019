//! The QEMU command line of a guest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Channel, Vm};
use crate::{Image, Process, Tpm, cache_dir, repository, run};

/// A port of 10.0.2.100 in the guest that leads to a loopback port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestForward {
    /// As the guest sees it.
    pub guest: u16,
    /// Where it leads.
    pub host: u16,
}

/// What a machine is made of.
#[derive(Debug)]
pub struct VmBuilder<'a> {
    image: &'a Image,
    tpm: Option<&'a Tpm>,
    memory_mib: u32,
    forwards: Vec<GuestForward>,
    published: Vec<(u16, u16)>,
    more: Vec<String>,
    direct: Option<String>,
    disks: Disks,
    secure_boot: bool,
}

/// What lies on the machine's board and disks where it is not the image's own.
#[derive(Debug, Default)]
struct Disks {
    esp: Option<PathBuf>,
    unordered: bool,
    without_root: bool,
    variables: Option<PathBuf>,
    option_rom: Option<PathBuf>,
    more: Vec<PathBuf>,
}

impl<'a> VmBuilder<'a> {
    /// The image on a machine with 1 GiB, two processors, no TPM.
    #[must_use]
    pub fn new(image: &'a Image) -> Self {
        Self {
            image,
            tpm: None,
            memory_mib: 1024,
            forwards: Vec::new(),
            published: Vec::new(),
            more: Vec::new(),
            direct: None,
            disks: Disks::default(),
            secure_boot: false,
        }
    }

    /// With this TPM.
    #[must_use]
    pub fn tpm(mut self, tpm: &'a Tpm) -> Self {
        self.tpm = Some(tpm);
        self
    }

    /// With so much memory.
    #[must_use]
    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.memory_mib = memory;
        self
    }

    /// Lets the guest reach a loopback port of the host as 10.0.2.100:`guest`.
    #[must_use]
    pub fn forward(mut self, guest: u16, host: u16) -> Self {
        self.forwards.push(GuestForward { guest, host });
        self
    }

    /// Lets the host reach the guest's port at 127.0.0.1:`host`.
    #[must_use]
    pub fn publish(mut self, host: u16, guest: u16) -> Self {
        self.published.push((host, guest));
        self
    }

    /// An SMBIOS type 11 string, as a hostile host would give it.
    #[must_use]
    pub fn smbios(mut self, value: &str) -> Self {
        self.more
            .extend(["-smbios".into(), format!("type=11,value={}", value.replace(',', ",,"))]);
        self
    }

    /// A fw_cfg entry, as a hostile host would give it.
    #[must_use]
    pub fn fw_cfg(mut self, name: &str, text: &str) -> Self {
        self.more.extend([
            "-fw_cfg".into(),
            format!("name={name},string={}", text.replace(',', ",,")),
        ]);
        self
    }

    /// Another boot partition than the image's.
    #[must_use]
    pub fn esp(mut self, path: &Path) -> Self {
        self.disks.esp = Some(path.to_owned());
        self
    }

    /// Boots what the firmware's own variables say; without this, the boot partition comes first.
    #[must_use]
    pub fn boot_order_of_the_firmware(mut self) -> Self {
        self.disks.unordered = true;
        self
    }

    /// Without the root disk.
    #[must_use]
    pub fn without_root(mut self) -> Self {
        self.disks.without_root = true;
        self
    }

    /// With this flash image of firmware variables in place of an empty one.
    #[must_use]
    pub fn variables(mut self, path: &Path) -> Self {
        self.disks.variables = Some(path.to_owned());
        self
    }

    /// With this option ROM on the network card, which else has none.
    #[must_use]
    pub fn option_rom(mut self, path: &Path) -> Self {
        self.disks.option_rom = Some(path.to_owned());
        self
    }

    /// With one more disk.
    #[must_use]
    pub fn disk(mut self, path: &Path) -> Self {
        self.disks.more.push(path.to_owned());
        self
    }

    /// With the firmware that enforces Secure Boot once [`Self::variables`] hold its keys.
    #[must_use]
    pub fn secure_boot(mut self) -> Self {
        self.secure_boot = true;
        self
    }

    /// Any other QEMU arguments.
    #[must_use]
    pub fn qemu(mut self, args: &[&str]) -> Self {
        self.more.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Boots the kernel without firmware: ten seconds less, and nothing is measured. `extra` is added to the command line.
    #[must_use]
    pub fn direct(mut self, extra: &str) -> Self {
        self.direct = Some(extra.to_owned());
        self
    }

    /// Waits for this host's turn (one machine of this kind at a time), then starts it.
    pub fn start(self) -> Result<Vm> {
        let dir = tempfile::Builder::new().prefix("rempart-vm").tempdir()?;
        let console = dir.path().join("console");
        let channel = dir.path().join("channel");
        let accelerator = run(&mut Command::new(repository().join("tests/image/accel")))?;
        let turn = File::create(cache_dir().join("vm.lock"))?;
        if turn.try_lock().is_err() {
            eprintln!("waiting for another machine on this host to end");
            turn.lock()?;
        }

        let tpm = self.tpm.map(Tpm::control_socket).transpose()?;
        let mut args = self.machine(&accelerator);
        args.extend(self.boot(dir.path())?);
        args.extend(self.network());
        if let Some(tpm) = &tpm {
            args.extend(words(
                "-tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0 -chardev",
            ));
            args.push(format!("socket,id=tpm,path={}", tpm.path().display()));
        }
        args.extend(words(
            "-device virtio-serial-pci -device virtserialport,chardev=channel,name=rempart.test -chardev",
        ));
        args.push(format!(
            "socket,id=channel,path={},server=on,wait=off",
            channel.display()
        ));
        // Its log is what the harness reads; who connects to the socket can type.
        args.extend(words("-serial chardev:console -chardev"));
        args.push(format!(
            "socket,id=console,path={},server=on,wait=off,logfile={}",
            dir.path().join("console.sock").display(),
            console.display()
        ));
        args.push("-qmp".into());
        args.push(format!(
            "unix:{},server=on,wait=off",
            dir.path().join("monitor").display()
        ));
        args.extend(self.more);

        let started = Instant::now();
        let mut process = Process::start(
            "qemu",
            Path::new("qemu-system-x86_64"),
            &args,
            &dir.path().join("qemu.log"),
        )?;
        let mut connected = None;
        process.wait_until(Duration::from_secs(20), || {
            connected = Channel::connect(&channel).ok();
            connected.is_some()
        })?;
        let channel = connected.context("QEMU's channel socket")?;
        Ok(Vm {
            process,
            tpm,
            channel,
            console,
            started,
            dir,
            _turn: turn,
        })
    }

    fn machine(&self, accelerator: &str) -> Vec<String> {
        let cpu = if accelerator == "kvm" { "host" } else { "max" };
        let smm = if self.secure_boot { "on" } else { "off" };
        let mut args = words("-smp 2 -display none -nodefaults -no-reboot -device virtio-rng-pci");
        args.extend(["-machine".into(), format!("q35,smm={smm}")]);
        if self.secure_boot {
            args.extend(words("-global driver=cfi.pflash01,property=secure,value=on"));
        }
        args.extend([
            "-accel".into(),
            accelerator.to_owned(),
            "-cpu".into(),
            cpu.into(),
            "-m".into(),
            self.memory_mib.to_string(),
        ]);
        args
    }

    fn boot(&self, dir: &Path) -> Result<Vec<String>> {
        let mut args = Vec::new();
        if let Some(extra) = &self.direct {
            let append = format!("{} {extra}", self.image.command_line()?);
            let kernel = self.image.dir().join("vmlinuz");
            let initrd = self.image.dir().join("initrd");
            args.extend([
                "-kernel".into(),
                shown(&kernel),
                "-initrd".into(),
                shown(&initrd),
                "-append".into(),
                append,
            ]);
        } else {
            let variables = dir.join("vars.fd");
            let given = self.disks.variables.clone();
            fs::write(
                &variables,
                fs::read(given.unwrap_or_else(|| self.image.firmware("VARS")))?,
            )?;
            let code = self.image.firmware("CODE").canonicalize()?;
            let code = if self.secure_boot {
                code.with_file_name("OVMF_CODE_4M.secboot.fd")
            } else {
                code
            };
            args.extend([
                "-drive".into(),
                format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display()),
            ]);
            args.extend([
                "-drive".into(),
                format!("if=pflash,format=raw,unit=1,file={}", variables.display()),
            ]);
            let esp = self.disks.esp.clone().unwrap_or_else(|| self.image.esp());
            args.extend(disk(
                "esp",
                &esp,
                if self.disks.unordered { "" } else { ",bootindex=0" },
            ));
        }
        if !self.disks.without_root {
            args.extend(disk("root", &self.image.root(), ""));
        }
        for (number, path) in self.disks.more.iter().enumerate() {
            args.extend(disk(&format!("more{number}"), path, ""));
        }
        Ok(args)
    }

    fn network(&self) -> Vec<String> {
        let mut net = "user,id=net,restrict=on".to_owned();
        for GuestForward { guest, host } in &self.forwards {
            // A command, not a plain chardev: one process a connection, where a chardev would be one connection for all.
            net.push_str(&format!(
                ",guestfwd=tcp:10.0.2.100:{guest}-cmd:socat -lf /dev/null STDIO TCP:127.0.0.1:{host}"
            ));
        }
        for (host, guest) in &self.published {
            net.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{guest}"));
        }
        let rom = self.disks.option_rom.as_deref().map(shown).unwrap_or_default();
        vec![
            "-netdev".into(),
            net,
            "-device".into(),
            format!("virtio-net-pci,netdev=net,romfile={rom}"),
        ]
    }
}

fn disk(id: &str, path: &Path, more: &str) -> Vec<String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    vec![
        "-drive".into(),
        format!("file={},format=raw,if=none,id={id},snapshot=on", path.display()),
        "-device".into(),
        format!("virtio-blk-pci,drive={id},serial={id}{more}"),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
