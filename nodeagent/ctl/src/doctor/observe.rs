//! The real machine: reads files, asks systemd, agent, guard and, where that is no attempt in the log, the TPM.
//!
//! Judges nothing and must never change anything. Each question has an end: a server that hangs is one that does not answer.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::{MetadataExt, OpenOptionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    libc::O_NONBLOCK,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rempart_api::{
    PROTOCOL_VERSION, bus,
    guard::{self, Request},
    line, path,
};
use rempart_core::{
    audit::Chain,
    config::{Fragment, Settings, Vault},
};
use x509_parser::pem::Pem;
use zbus::{Connection, fdo::DBusProxy, names::BusName};

use super::{
    facts::{
        Audit, Boot, Certificate, Entry, EventLog, Facts, Installed, Kernel, Live, Loader, Seen, SeenCertificates,
        Swap, System, Tpm,
    },
    installed::{FOLDERS, ROOTS, RUNNING},
    tpm::{self, Permanent},
};
use crate::{
    agent,
    status::{self, Status},
    systemd::{ManagerProxy, property},
    units::validate,
};

/// One question and its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest audit log that is replayed here; longer ones the agent replays when it starts.
const MAX_LOG: u64 = 64 << 20;
/// Longest file of certificates.
const MAX_PEM: u64 = 1 << 20;
/// The vendor of the UEFI specification's own variables.
const EFI_GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The vendor of systemd's.
const EFI_SYSTEMD: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// PC Client Platform Firmware Profile, 10.4.5.1: the signature in the first event of a crypto-agile log.
const CRYPTO_AGILE: &[u8] = b"Spec ID Event03";
/// Where that signature stands: behind the first event's header of 32 bytes.
const SIGNATURE_AT: usize = 32;
/// Programs that a change of the command line needs, and where they lie.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("update-grub", &["/usr/sbin/update-grub"]),
    ("grub2-mkconfig", &["/usr/sbin/grub2-mkconfig"]),
    ("kernel-install", &["/usr/bin/kernel-install", "/bin/kernel-install"]),
    ("ukify", &["/usr/bin/ukify", "/usr/lib/systemd/ukify"]),
];

/// Everything.
pub async fn facts(bus: Option<&str>) -> Facts {
    let machine = Machine::at(Path::new("/"));
    let agent = agent_status(bus).await;
    // The agent's word comes before the log: it only grows.
    let head = agent.as_ref().ok().map(|status| status.audit_head.clone());
    let guard = match &agent {
        Ok(_) => Seen::Absent,
        Err(_) => guard_status(Path::new(path::GUARD_SOCKET)),
    };
    // The names alone: to open or look up what lies there is an attempt, which the guard denies and records.
    let pins = machine.names(path::PINS);
    let kept = match &agent {
        Ok(status) => status.guard.armed && status.guard.tpm_exclusive,
        Err(_) => keeps_tpm(&guard, &pins),
    };
    let settings = machine.settings();
    Facts {
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        kernel: machine.kernel(),
        boot: machine.boot(),
        tpm: machine.tpm(kept),
        system: system(bus).await,
        installed: machine.installed(settings),
        live: Live {
            audit: machine.audit(head.as_deref()),
            agent,
            guard,
            pins,
            units: validate::survey(bus).await,
        },
    }
}

/// Whether the TPM is the agent's alone. Where the guard does not tell, its programs may still be in force.
fn keeps_tpm(guard: &Seen<guard::Status>, pins: &Seen<Vec<String>>) -> bool {
    match (guard, pins) {
        (Seen::Is(guard), _) => guard.armed && guard.tpm_exclusive,
        (_, Seen::Absent) => false,
        (_, Seen::Is(pins)) => !pins.is_empty(),
        (_, Seen::Hidden(_)) => true,
    }
}

/// Files below a root folder, which is another than `/` in tests only.
pub struct Machine(PathBuf);

impl Machine {
    /// The machine whose files lie below `root`.
    pub fn at(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// Where `path` of the machine is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn there(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> Seen<String> {
        Seen::of(fs::read_to_string(self.path(path)))
    }

    fn line(&self, path: &str) -> String {
        self.text(path)
            .known()
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    }

    fn names(&self, path: &str) -> Seen<Vec<String>> {
        Seen::of(fs::read_dir(self.path(path)).and_then(|entries| {
            let name = |entry: std::io::Result<fs::DirEntry>| -> std::io::Result<String> {
                Ok(entry?.file_name().to_string_lossy().into_owned())
            };
            entries.map(name).collect()
        }))
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        let secret = rempart_secretmem::Area::create(4096);
        Kernel {
            release: self.line("/proc/sys/kernel/osrelease"),
            cmdline: self.line("/proc/cmdline"),
            lsm: self.text("/sys/kernel/security/lsm").map(|text| text.trim().to_owned()),
            btf: self.there("/sys/kernel/btf/vmlinux"),
            secret_memory: secret.map(drop).map_err(|error| error.to_string()),
            lockdown: self.text("/sys/kernel/security/lockdown"),
            swaps: self.swaps(),
            ima: match self.text("/sys/kernel/security/ima/runtime_measurements_count") {
                Seen::Is(text) => match text.trim().parse() {
                    Ok(count) => Seen::Is(count),
                    Err(_) => Seen::Hidden("the kernel's count is none".to_owned()),
                },
                Seen::Absent => Seen::Absent,
                Seen::Hidden(why) => Seen::Hidden(why),
            },
        }
    }

    fn swaps(&self) -> Vec<Swap> {
        let text = self.line("/proc/swaps");
        let paths = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let safe = |path: &str| {
            let name = Path::new(path)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let memory = path == format!("/dev/{name}") && name.starts_with("zram");
            let backed = self.line(&format!("/sys/block/{name}/backing_dev"));
            (memory && matches!(backed.as_str(), "" | "none"))
                || self.line(&format!("/sys/block/{name}/dm/uuid")).starts_with("CRYPT-")
        };
        paths
            .map(|path| Swap {
                path: path.to_owned(),
                safe: safe(path),
            })
            .collect()
    }

    /// How it was booted.
    pub fn boot(&self) -> Boot {
        let variable = |name: &str, vendor: &str| {
            Seen::of(fs::read(
                self.path(&format!("/sys/firmware/efi/efivars/{name}-{vendor}")),
            ))
        };
        let uefi = self.there("/sys/firmware/efi");
        let secure_boot = match variable("SecureBoot", EFI_GLOBAL) {
            // Attributes of four bytes stand before the value.
            Seen::Is(bytes) => Seen::Is(bytes.get(4) == Some(&1)),
            Seen::Absent if uefi && !self.there("/sys/firmware/efi/efivars") => {
                Seen::Hidden("EFI variables are not there".to_owned())
            }
            Seen::Absent => Seen::Absent,
            Seen::Hidden(why) => Seen::Hidden(why),
        };
        let loader = variable("LoaderInfo", EFI_SYSTEMD)
            .known()
            .map(|bytes| utf16(bytes))
            .unwrap_or_default();
        let release = self.line("/proc/sys/kernel/osrelease");
        let images = [
            format!("/boot/vmlinuz-{release}"),
            format!("/usr/lib/modules/{release}/vmlinuz"),
        ];
        Boot {
            uefi,
            secure_boot,
            log: self.event_log(),
            loader: Loader {
                stub: matches!(variable("StubInfo", EFI_SYSTEMD), Seen::Is(_)),
                systemd_boot: loader.starts_with("systemd-boot"),
                grub: self.text("/etc/default/grub"),
                kernel_cmdline: self.text("/etc/kernel/cmdline"),
                programs: PROGRAMS
                    .into_iter()
                    .filter(|(_, paths)| paths.iter().any(|path| self.there(path)))
                    .map(|(name, _)| name)
                    .collect(),
                image: images.into_iter().find(|path| self.there(path)),
            },
        }
    }

    fn event_log(&self) -> Seen<EventLog> {
        let mut head = Vec::new();
        let read = File::open(self.path("/sys/kernel/security/tpm0/binary_bios_measurements"))
            .and_then(|file| file.take(4096).read_to_end(&mut head));
        Seen::of(read).map(|read| match read {
            0 => EventLog::Empty,
            _ => match head
                .get(SIGNATURE_AT..)
                .is_some_and(|event| event.starts_with(CRYPTO_AGILE))
            {
                true => EventLog::Agile,
                false => EventLog::Sha1Only,
            },
        })
    }

    /// Whether the guard keeps the TPM for the agent.
    pub fn tpm_is_kept(&self) -> bool {
        keeps_tpm(&guard_status(&self.path(path::GUARD_SOCKET)), &self.names(path::PINS))
    }

    /// Its TPM, which is not asked when the guard keeps it for the agent.
    pub fn tpm(&self, kept: bool) -> Tpm {
        let banks = ["sha1", "sha256", "sha384", "sha512"].map(str::to_owned);
        let device = self.there("/dev/tpmrm0");
        let libraries = [
            "/usr/lib",
            "/usr/lib64",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
        ];
        Tpm {
            device,
            version: self.line("/sys/class/tpm/tpm0/tpm_version_major"),
            banks: banks
                .into_iter()
                .filter(|bank| self.there(&format!("/sys/class/tpm/tpm0/pcr-{bank}/0")))
                .collect(),
            kept,
            permanent: match (device, kept) {
                (true, false) => ask_tpm(&self.path("/dev/tpmrm0")),
                (true, true) => Seen::Hidden("kept for the agent".to_owned()),
                (false, _) => Seen::Absent,
            },
            library: libraries
                .iter()
                .any(|folder| self.there(&format!("{folder}/libtss2-tcti-device.so.0"))),
        }
    }

    fn installed(&self, settings: Seen<Result<Settings, String>>) -> Installed {
        let entry = |path: &str| {
            Seen::of(fs::metadata(self.path(path))).map(|found| Entry {
                mode: found.mode() & 0o7777,
                user: found.uid(),
                group: found.gid(),
            })
        };
        let paths = FOLDERS.iter().map(|(path, ..)| *path).chain(ROOTS);
        Installed {
            bus_policy: self.text("/usr/share/dbus-1/system.d/org.rempart.NodeAgent1.conf"),
            passwd: self.line("/etc/passwd"),
            groups: self.line("/etc/group"),
            entries: paths.map(|path| (path.to_owned(), entry(path))).collect(),
            certificates: self.certificates(settings.known().and_then(|settings| settings.as_ref().ok())),
            settings,
        }
    }

    /// The configuration, merged and judged as the agent does it.
    pub fn settings(&self) -> Seen<Result<Settings, String>> {
        let main = match self.text(path::CONFIG) {
            Seen::Is(text) => text,
            Seen::Absent => return Seen::Absent,
            Seen::Hidden(why) => return Seen::Hidden(why),
        };
        match self.fragments() {
            Seen::Is(later) => Seen::Is(judge(&main, &later)),
            Seen::Absent => Seen::Is(judge(&main, &[])),
            Seen::Hidden(why) => Seen::Hidden(why),
        }
    }

    /// Files of conf.d in their order, with their texts.
    pub fn fragments(&self) -> Seen<Vec<(String, String)>> {
        let folder = format!("{}/conf.d", path::CONFIG.trim_end_matches("/rempart.toml"));
        let mut names = match self.names(&folder) {
            Seen::Is(names) => names,
            Seen::Absent => return Seen::Absent,
            Seen::Hidden(why) => return Seen::Hidden(why),
        };
        names.retain(|name| name.ends_with(".toml"));
        names.sort();
        let mut texts = Vec::new();
        for name in names {
            let path = format!("{folder}/{name}");
            match self.text(&path) {
                Seen::Is(text) => texts.push((path, text)),
                Seen::Absent => {}
                Seen::Hidden(why) => return Seen::Hidden(format!("{path}: {why}")),
            }
        }
        Seen::Is(texts)
    }

    fn certificates(&self, settings: Option<&Settings>) -> Vec<(String, SeenCertificates)> {
        let mut paths: Vec<String> = Vec::new();
        let mut add = |path: &Path| {
            let path = path.display().to_string();
            if !paths.contains(&path) {
                paths.push(path);
            }
        };
        if let Some(settings) = settings {
            settings.verifier.iter().for_each(|verifier| add(&verifier.ca));
            if let Vault::OpenBao { ca, .. } = &settings.vault {
                add(ca);
            }
        }
        let mut found: Vec<_> = paths.into_iter().map(|path| (path.clone(), self.pem(&path))).collect();
        match self.names(path::STATE) {
            Seen::Is(names) => {
                let own = |name: &String| name.starts_with("ak-certificate") && name.ends_with(".pem");
                let own = names
                    .into_iter()
                    .filter(own)
                    .map(|name| format!("{}/{name}", path::STATE));
                found.extend(own.map(|path| (path.clone(), self.pem(&path))));
            }
            Seen::Absent => {}
            Seen::Hidden(why) => found.push((format!("{}/ak-certificate.pem", path::STATE), Seen::Hidden(why))),
        }
        found
    }

    /// Certificates of a file.
    pub fn pem(&self, path: &str) -> SeenCertificates {
        let mut bytes = Vec::new();
        let read = File::open(self.path(path)).and_then(|file| file.take(MAX_PEM).read_to_end(&mut bytes));
        Seen::of(read).map(|_| certificates(&bytes))
    }

    fn audit(&self, head: Option<&str>) -> Seen<Audit> {
        let path = self.path(&format!("{}/audit.jsonl", path::STATE));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| {
            let len = file.metadata()?.len();
            if len > MAX_LOG {
                let why = format!(
                    "{} MiB: too long for a quick look; the agent replays it at each start",
                    len >> 20
                );
                return Err(std::io::Error::other(why));
            }
            file.take(MAX_LOG).read_to_string(&mut text)
        });
        Seen::of(read).map(|_| replay(&text, head))
    }
}

/// The log's text against the head that the agent told before it was read.
fn replay(text: &str, head: Option<&str>) -> Audit {
    // The agent may be writing the last line just now.
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    let chain = Chain::replay(whole.lines());
    let has_head = head.map(|head| {
        let before = format!("\"prev\":\"{head}\"");
        whole.lines().any(|line| line.contains(&before)) || chain.as_ref().is_ok_and(|chain| hex(&chain.head()) == head)
    });
    Audit {
        entries: whole.lines().count(),
        broken: chain.err().map(|error| error.to_string()),
        has_head,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The configuration's files, merged in their order.
pub fn judge(main: &str, later: &[(String, String)]) -> Result<Settings, String> {
    let parse = |path: &str, text: &str| Fragment::parse(path, text).map_err(|error| error.to_string());
    let mut merged = parse(path::CONFIG, main)?;
    for (path, text) in later {
        merged = merged.overridden_by(parse(path, text)?);
    }
    Settings::judge(merged).map_err(|error| error.to_string())
}

/// What counts of the certificates in a PEM text.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let mut list = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|_| "it is not PEM".to_owned())?;
        if block.label != "CERTIFICATE" {
            continue;
        }
        let parsed = block
            .parse_x509()
            .map_err(|_| "a certificate in it cannot be read".to_owned())?;
        list.push(Certificate {
            subject: parsed.subject().to_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        });
    }
    Ok(list)
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes[4.min(bytes.len())..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

fn ask_tpm(device: &Path) -> Seen<Permanent> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(device)?;
        file.write_all(&tpm::QUESTION)?;
        let millis = u16::try_from(PATIENCE.as_millis()).unwrap_or(u16::MAX);
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(millis))? == 0 {
            return Err(std::io::Error::other("the TPM does not answer"));
        }
        let mut answer = [0; tpm::MOST];
        let len = file.read(&mut answer)?;
        Ok(answer[..len].to_vec())
    };
    match Seen::of(ask()) {
        Seen::Is(answer) => match Permanent::parse(&answer) {
            Ok(state) => Seen::Is(state),
            Err(why) => Seen::Hidden(why),
        },
        Seen::Absent => Seen::Absent,
        Seen::Hidden(why) => Seen::Hidden(why),
    }
}

async fn agent_status(bus: Option<&str>) -> Result<Box<Status>, String> {
    let asked = async { status::read(&agent::connect(bus).await?).await };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(status)) => Ok(Box::new(status)),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("the agent did not answer within {} s", PATIENCE.as_secs())),
    }
}

fn guard_status(socket: &Path) -> Seen<guard::Status> {
    let ask = || -> std::io::Result<guard::Status> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let other = |error: line::LineError| std::io::Error::other(error.to_string());
        let question = line::encode(&Request::Status { v: PROTOCOL_VERSION }).map_err(other)?;
        stream.write_all(&question)?;
        line::decode(&line::read(&mut stream).map_err(other)?).map_err(other)
    };
    match ask() {
        // The socket of a guard that has ended.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Seen::Absent,
        answer => Seen::of(answer),
    }
}

async fn system(address: Option<&str>) -> System {
    let unknown = |why: &str| System {
        systemd: Seen::Hidden(why.to_owned()),
        synchronised: Seen::Absent,
        locked_memory: Seen::Hidden(why.to_owned()),
        units: RUNNING
            .into_iter()
            .map(|unit| (unit, Seen::Hidden(why.to_owned())))
            .collect(),
        name_owner: Seen::Hidden(why.to_owned()),
    };
    if address.is_none() && !Path::new("/run/systemd/system").is_dir() {
        return System {
            systemd: Seen::Absent,
            ..unknown("not booted with systemd")
        };
    }
    let asked = async {
        let bus = crate::systemd::connect(address).await?;
        let manager = ManagerProxy::new(&bus).await?;
        let mut units = BTreeMap::new();
        for unit in RUNNING
            .into_iter()
            .chain(["rempart-gate.service", "rempart-unlocked.target"])
        {
            units.insert(unit, unit_state(&bus, &manager, unit).await);
        }
        Ok::<_, zbus::Error>(System {
            systemd: seen(property(&bus, "/org/freedesktop/systemd1", "Manager", "Version").await),
            synchronised: Seen::Absent,
            locked_memory: match manager.get_unit("rempartd.service").await {
                Ok(path) => seen(property(&bus, path.as_str(), "Service", "LimitMEMLOCK").await),
                Err(error) => seen(Err(error)),
            },
            units,
            name_owner: name_owner(&bus).await,
        })
    };
    let mut system = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(system)) => system,
        Ok(Err(error)) => return unknown(&format!("the bus does not answer: {error}")),
        Err(_) => return unknown(&format!("the bus did not answer within {} s", PATIENCE.as_secs())),
    };
    system.synchronised = synchronised(address).await;
    system
}

fn seen<T>(answer: zbus::Result<T>) -> Seen<T> {
    match answer {
        Ok(value) => Seen::Is(value),
        Err(zbus::Error::MethodError(name, ..))
            if name.ends_with(".NoSuchUnit") || name.ends_with(".NameHasNoOwner") =>
        {
            Seen::Absent
        }
        Err(error) => Seen::Hidden(error.to_string()),
    }
}

async fn unit_state(bus: &Connection, manager: &ManagerProxy<'_>, unit: &str) -> Seen<String> {
    match manager.get_unit(unit).await {
        Ok(path) => seen(property(bus, path.as_str(), "Unit", "ActiveState").await),
        Err(error) => seen(Err(error)),
    }
}

async fn name_owner(bus: &Connection) -> Seen<u32> {
    let asked = async {
        let names = DBusProxy::new(bus).await?;
        let owner = names.get_name_owner(BusName::from_static_str(bus::NAME)?).await?;
        Ok::<_, zbus::Error>(names.get_connection_unix_user(owner.into_inner().into()).await?)
    };
    match asked.await {
        Err(zbus::Error::FDO(error)) if matches!(*error, zbus::fdo::Error::NameHasNoOwner(_)) => Seen::Absent,
        answer => seen(answer),
    }
}

/// systemd-timedated knows it of every time client; timesyncd leaves a file.
async fn synchronised(address: Option<&str>) -> Seen<bool> {
    if fs::exists("/run/systemd/timesync/synchronized").unwrap_or(false) {
        return Seen::Is(true);
    }
    let asked = async {
        let bus = crate::systemd::connect(address).await?;
        let name = "org.freedesktop.timedate1";
        let proxy = zbus::Proxy::new(&bus, name, "/org/freedesktop/timedate1", name).await?;
        proxy.get_property::<bool>("NTPSynchronized").await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(synchronised)) => Seen::Is(synchronised),
        Ok(Err(_)) | Err(_) => Seen::Absent,
    }
}

#[cfg(test)]
mod tests {
    use rempart_core::audit::What;

    use super::*;

    fn machine(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, bytes).expect("file");
        }
        let machine = Machine::at(root.path());
        (root, machine)
    }

    #[test]
    fn kernel_swap_and_ima_are_read_as_the_kernel_writes_them() {
        let swaps = "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 5\n/dev/dm-1 partition 1 0 -2\n/swapfile file 1 0 -3\n";
        let (_root, machine) = machine(&[
            ("proc/sys/kernel/osrelease", b"6.12.1\n"),
            ("proc/cmdline", b"ro quiet\n"),
            ("proc/swaps", swaps.as_bytes()),
            ("sys/block/dm-1/dm/uuid", b"CRYPT-PLAIN-swap\n"),
            ("sys/kernel/security/lsm", b"capability,bpf\n"),
            ("sys/kernel/btf/vmlinux", b""),
            ("sys/kernel/security/ima/runtime_measurements_count", b"12\n"),
        ]);
        let kernel = machine.kernel();
        assert_eq!(
            (kernel.release.as_str(), kernel.cmdline.as_str()),
            ("6.12.1", "ro quiet")
        );
        assert_eq!(
            (kernel.lsm, kernel.ima),
            (Seen::Is("capability,bpf".into()), Seen::Is(12))
        );
        assert!(kernel.btf && kernel.lockdown == Seen::Absent);
        let safe: Vec<bool> = kernel.swaps.iter().map(|swap| swap.safe).collect();
        assert_eq!(safe, [true, true, false]);
    }

    #[test]
    fn firmware_loader_and_log_are_read_as_they_leave_themselves() {
        let vars = "sys/firmware/efi/efivars";
        let utf16: Vec<u8> = [6_u8, 0, 0, 0]
            .into_iter()
            .chain("systemd-boot 257".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        let agile = [&[0; SIGNATURE_AT][..], CRYPTO_AGILE, &[0; 20]].concat();
        let log = "sys/kernel/security/tpm0/binary_bios_measurements";
        let (_root, all) = machine(&[
            (&format!("{vars}/SecureBoot-{EFI_GLOBAL}"), &[6, 0, 0, 0, 1]),
            (&format!("{vars}/LoaderInfo-{EFI_SYSTEMD}"), &utf16),
            (log, &agile),
            ("proc/sys/kernel/osrelease", b"6.12.1\n"),
            ("boot/vmlinuz-6.12.1", b""),
            ("usr/bin/kernel-install", b""),
        ]);
        let boot = all.boot();
        assert!(boot.uefi && boot.secure_boot == Seen::Is(true) && boot.log == Seen::Is(EventLog::Agile));
        assert!(boot.loader.systemd_boot && !boot.loader.stub);
        assert_eq!(
            (boot.loader.programs.as_slice(), boot.loader.image.as_deref()),
            (&["kernel-install"][..], Some("/boot/vmlinuz-6.12.1"))
        );
        for (bytes, wanted) in [(&[0_u8; 64][..], EventLog::Sha1Only), (&[], EventLog::Empty)] {
            let (_root, machine) = machine(&[(log, bytes)]);
            assert_eq!(machine.boot().log, Seen::Is(wanted));
        }
        let (_root, bios) = machine(&[]);
        assert!(!bios.boot().uefi && bios.boot().log == Seen::Absent && bios.boot().secure_boot == Seen::Absent);
        let (_root, hidden) = machine(&[("sys/firmware/efi/systab", b"")]);
        assert!(matches!(hidden.boot().secure_boot, Seen::Hidden(_)));
    }

    #[test]
    fn the_configuration_is_merged_as_the_agent_merges_it() {
        let whole = b"[node]\nname = \"a\"\n[vault]\nkind = \"tpm\"\n";
        let (_root, one) = machine(&[
            ("etc/rempart/rempart.toml", whole),
            ("etc/rempart/conf.d/20.toml", b"[node]\nname = \"c\"\n"),
            ("etc/rempart/conf.d/10.toml", b"[node]\nname = \"b\"\n"),
            ("etc/rempart/conf.d/30.toml.bak", b"nonsense"),
        ]);
        let Seen::Is(Ok(settings)) = one.settings() else {
            panic!()
        };
        assert_eq!(settings.node, "c");
        let (_root, wrong) = machine(&[("etc/rempart/rempart.toml", b"[node]\nnmae = \"a\"\n")]);
        assert!(matches!(wrong.settings(), Seen::Is(Err(why)) if why.contains("nmae")));
        let (_root, none) = machine(&[]);
        assert_eq!(none.settings(), Seen::Absent);
    }

    #[test]
    fn a_log_is_whole_cut_or_another_one() {
        let mut chain = Chain::default();
        let mut text = String::new();
        let mut heads = Vec::new();
        for word in ["a", "b", "c"] {
            text += &chain.append(
                1,
                What::State {
                    state: word.into(),
                    reason: String::new(),
                },
            );
            text.push('\n');
            heads.push(hex(&chain.head()));
        }
        for head in &heads {
            let log = replay(&text, Some(head));
            assert_eq!(
                (log.entries, log.broken, log.has_head),
                (3, None, Some(true)),
                "grown since"
            );
        }
        assert_eq!(replay(&text, Some(&"0".repeat(63))).has_head, Some(false));
        let cut: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
        assert_eq!(
            replay(&cut, Some(&heads[2])).has_head,
            Some(false),
            "its end was cut off"
        );
        assert_eq!(
            replay(&format!("{text}{{\"v\":1"), None).broken,
            None,
            "a line that is being written"
        );
        let removed: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        assert!(replay(&removed, None).broken.is_some());
    }

    #[test]
    fn certificates_are_read_from_pem_and_nothing_else_is_taken_for_one() {
        assert_eq!(certificates(b""), Ok(Vec::new()));
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nAA").is_err());
    }

    #[test]
    fn a_guard_that_has_ended_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("guard.sock");
        assert!(matches!(guard_status(&socket), Seen::Absent));
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        assert!(matches!(guard_status(&socket), Seen::Absent));
    }
}
