//! Puts maps and programs into the kernel and pins them, so that denial outlives the guard. All or
//! nothing for the essential programs: what was pinned before a failure is removed again.

use crate::{
    maps::{self, Maps, MapsError},
    options::Options,
    programs::{self, Hook, PROGRAMS, Row},
    raw, seal,
};
use aya::{
    Btf, BtfError, Ebpf, EbpfError, EbpfLoader,
    programs::{FEntry, FExit, Lsm, Program, ProgramError, links::FdLink},
};
use rempart_api::guard::Program as Listed;
use rempart_bpf_common::{EXE_GUARD_UNIT, Flags, Label, Mode};
use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rempart.bpf.o"));

/// Why nothing is enforced. The first word of each message names the degraded mode.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The kernel has no type information.
    #[error("no-btf: the kernel offers no /sys/kernel/btf/vmlinux ({0}); use a kernel with CONFIG_DEBUG_INFO_BTF")]
    NoBtf(BtfError),
    /// The BPF LSM is not in force.
    #[error("no-bpf-lsm: the kernel runs without the BPF LSM; add `bpf` to lsm= on its command line")]
    NoBpfLsm,
    /// The object does not fit this kernel.
    #[error("object-refused: the BPF object does not fit this kernel: {0}")]
    Object(EbpfError),
    /// The kernel's lockdown goes further than our programs can.
    #[error(
        "lockdown-confidentiality: lockdown=confidentiality forbids BPF programs to read kernel memory ({0}); boot with lockdown=integrity"
    )]
    Lockdown(String),
    /// bpf(2) was not permitted.
    #[error(
        "load-refused: the kernel lets this process make no BPF maps ({0}); the guard needs CAP_BPF and CAP_PERFMON and a kernel that accepts LSM programs"
    )]
    NotPermitted(String),
    /// A program was refused.
    #[error(
        "load-refused: the kernel refused program {name} ({why}); the guard needs CAP_BPF and CAP_PERFMON and a kernel that accepts LSM programs"
    )]
    Program {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// There is no bpffs to pin on.
    #[error("no-pins: {path} cannot be used for pins ({error}); mount a bpffs there that user rempart-guard may write")]
    Pins {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Attached, but never called.
    #[error(
        "hooks-silent: the programs are attached but the kernel does not call them; add `bpf` to lsm= on its command line"
    )]
    HooksSilent,
    /// The maps failed.
    #[error("maps-refused: {0}")]
    Maps(#[from] MapsError),
    /// Our own label failed.
    #[error("label-refused: the guard cannot label itself ({0})")]
    Label(io::Error),
}

/// Programs in force, with the descriptors that hold them beside the pins.
pub(crate) struct Installed {
    /// The maps.
    pub(crate) maps: Maps,
    /// What is attached.
    pub(crate) programs: Vec<Listed>,
    /// Held open: unpinning alone ends nothing while the guard lives.
    #[expect(dead_code, reason = "held, never used")]
    pub(crate) links: Vec<FdLink>,
    /// What is sealed.
    pub(crate) held: seal::Held,
}

/// Name of a program's link pin.
pub(crate) fn link_pin(program: &str) -> String {
    format!("link_{program}")
}

/// Digest by which a guard knows its own object: against mix-ups, not against forgers.
pub(crate) fn object_digest() -> u64 {
    fnv1a(OBJECT)
}

/// FNV-1a, 64 bits: tells apart what nobody has an interest in confusing.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Loads, pins, attaches, labels the guard.
pub(crate) fn install(options: &Options) -> Result<Installed, InstallError> {
    require_bpf_lsm()?;
    let btf = Btf::from_sys_fs().map_err(InstallError::NoBtf)?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&btf)).allow_unsupported_maps();
    if let Some(room) = options.room {
        loader.map_max_entries("leaders", room).map_max_entries("cgroups", room);
    }
    let mut ebpf = loader.load(OBJECT).map_err(object_refused)?;
    let loaded = load(&mut ebpf, &btf)?;
    prepare_folder(&options.pins)?;
    let installed = attach(options, &mut ebpf, &loaded);
    if installed.is_err() {
        remove_pins(&options.pins);
    }
    installed
}

/// Where securityfs is not visible this cannot be told, and the call of a hook is tested later.
fn require_bpf_lsm() -> Result<(), InstallError> {
    match fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(list) if !list.trim().split(',').any(|name| name == "bpf") => Err(InstallError::NoBpfLsm),
        _ => Ok(()),
    }
}

/// Whether this kernel keeps its memory from BPF programs: bpf_probe_read_kernel(2) is then unknown to them.
fn confidentiality() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|text| text.contains("[confidentiality]"))
}

fn object_refused(error: EbpfError) -> InstallError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(one) = cause {
        let errno = one.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if matches!(errno, Some(libc::EPERM | libc::EACCES)) {
            return InstallError::NotPermitted(error.to_string());
        }
        cause = one.source();
    }
    InstallError::Object(error)
}

/// Loads each program whose hook is there; returns their ids with their rows.
fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<(Row, u32)>, InstallError> {
    let mut loaded = Vec::new();
    for row in PROGRAMS {
        if row
            .instead_of
            .is_some_and(|other| loaded.iter().any(|(row, _): &(Row, u32)| row.name == other))
        {
            continue;
        }
        match load_one(ebpf, btf, row) {
            Ok(id) => loaded.push((*row, id)),
            Err(error) if row.essential && confidentiality() => return Err(InstallError::Lockdown(cause(&error))),
            Err(error) if row.essential => {
                return Err(InstallError::Program {
                    name: row.name,
                    why: cause(&error),
                });
            }
            Err(error) => eprintln!("<4>rempart-guard: program {} is left out: {}", row.name, cause(&error)),
        }
    }
    Ok(loaded)
}

fn load_one(ebpf: &mut Ebpf, btf: &Btf, row: &Row) -> Result<u32, ProgramError> {
    match row.hook {
        Hook::Lsm(name) => {
            let program: &mut Lsm = program(ebpf, row)?;
            program.load(name, btf)?;
            Ok(program.info()?.id())
        }
        Hook::FEntry(name) => {
            let program: &mut FEntry = program(ebpf, row)?;
            program.load(name, btf)?;
            Ok(program.info()?.id())
        }
        Hook::FExit(name) => {
            let program: &mut FExit = program(ebpf, row)?;
            program.load(name, btf)?;
            Ok(program.info()?.id())
        }
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, row: &Row) -> Result<P, ProgramError>
where
    P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(row.name).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn attach_one(ebpf: &mut Ebpf, row: &Row) -> Result<FdLink, ProgramError> {
    Ok(match row.hook {
        Hook::Lsm(_) => {
            let program: &mut Lsm = program(ebpf, row)?;
            let id = program.attach()?;
            program.take_link(id)?.into()
        }
        Hook::FEntry(_) => {
            let program: &mut FEntry = program(ebpf, row)?;
            let id = program.attach()?;
            program.take_link(id)?.into()
        }
        Hook::FExit(_) => {
            let program: &mut FExit = program(ebpf, row)?;
            let id = program.attach()?;
            program.take_link(id)?.into()
        }
    })
}

/// One line of what the kernel said; the verifier's last words, not its whole log.
fn cause(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            if std::env::var_os("REMPART_VERIFIER_LOG").is_some() {
                eprintln!("{log}");
            }
            let last = log
                .lines()
                .rev()
                .find(|line| !line.starts_with("processed ") && !line.trim().is_empty());
            format!("{io_error}{}", last.map(|line| format!(": {line}")).unwrap_or_default())
        }
        ProgramError::SyscallError(call) => format!("{}: {}", call.call, call.io_error),
        other => other.to_string(),
    }
}

fn prepare_folder(pins: &Path) -> Result<(), InstallError> {
    let refused = |error| InstallError::Pins {
        path: pins.to_owned(),
        error,
    };
    match fs::DirBuilder::new().mode(0o700).create(pins) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(error)),
    }
    let system = nix::sys::statfs::statfs(pins).map_err(|error| refused(error.into()))?;
    if system.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
        return Err(refused(io::Error::other("not on a bpffs")));
    }
    Ok(())
}

fn attach(options: &Options, ebpf: &mut Ebpf, loaded: &[(Row, u32)]) -> Result<Installed, InstallError> {
    let pins = &options.pins;
    let pin_error = |error: aya::pin::PinError| InstallError::Pins {
        path: pins.clone(),
        error: pin_cause(error),
    };
    for name in maps::NAMES {
        let map = ebpf.map(name).expect("the object has all maps that the table names");
        map.pin(pins.join(maps::pin_name(name))).map_err(pin_error)?;
    }
    let mut maps = Maps::open(pins)?;
    let ids: Vec<u32> = loaded.iter().map(|(_, id)| *id).collect();
    maps.fill(pins, &ids)?;
    let unit = label_self(&mut maps)?;
    let mut links = Vec::new();
    for (row, _) in loaded {
        let refused = |error: ProgramError| InstallError::Program {
            name: row.name,
            why: cause(&error),
        };
        let link = attach_one(ebpf, row).map_err(refused)?;
        links.push(link.pin(pins.join(link_pin(row.name))).map_err(pin_error)?.into());
    }
    sync_self().map_err(InstallError::Label)?;
    if !maps.is_synced(unit) {
        return Err(InstallError::HooksSilent);
    }
    let held = seal::learn(&mut maps, options)?;
    let mut config = maps.config()?;
    config.object = object_digest();
    maps.set_config(&config)?;
    let programs = programs::listed(|name| loaded.iter().any(|(row, _)| row.name == name));
    Ok(Installed {
        maps,
        programs,
        links,
        held,
    })
}

fn pin_cause(error: aya::pin::PinError) -> io::Error {
    match error {
        aya::pin::PinError::SyscallError(call) => call.io_error,
        other => io::Error::other(other.to_string()),
    }
}

/// Gives this process the guard's label; returns the guard's unit id.
pub(crate) fn label_self(maps: &mut Maps) -> Result<u64, InstallError> {
    let unit = maps.unit(EXE_GUARD_UNIT)?;
    let own = raw::pidfd_open(std::process::id()).map_err(InstallError::Label)?;
    let label = Label::new(unit, Mode::Enforce, Flags::Guard);
    raw::set_label(maps.labels_fd(), own.as_fd(), &label).map_err(InstallError::Label)?;
    Ok(unit)
}

/// Has the programs copy our own label into the table by address.
pub(crate) fn sync_self() -> io::Result<()> {
    nix::unistd::getpgid(Some(nix::unistd::getpid()))?;
    Ok(())
}

/// Removes whatever an unfinished installation has left.
pub(crate) fn remove_pins(pins: &Path) {
    let Ok(entries) = fs::read_dir(pins) else { return };
    for entry in entries.flatten() {
        if let Err(error) = fs::remove_file(entry.path()) {
            eprintln!("<4>rempart-guard: cannot remove {}: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_every_map_and_program_of_the_tables() {
        let object = aya_names();
        for name in maps::NAMES {
            assert!(object.contains(*name), "{name}");
        }
        for row in PROGRAMS {
            assert!(object.contains(row.name), "{}", row.name);
        }
    }

    #[test]
    fn every_reason_begins_with_a_degraded_mode_of_the_contract_and_each_mode_is_documented() {
        let io = || io::Error::from_raw_os_error(libc::EPERM);
        let reasons = [
            InstallError::NoBtf(BtfError::FileError {
                path: "x".into(),
                error: io(),
            }),
            InstallError::NoBpfLsm,
            InstallError::Lockdown("x".into()),
            InstallError::NotPermitted("x".into()),
            InstallError::Object(EbpfError::NoBTF),
            InstallError::Program {
                name: "x",
                why: "x".into(),
            },
            InstallError::Pins {
                path: "x".into(),
                error: io(),
            },
            InstallError::HooksSilent,
            InstallError::Maps(MapsError::Layout),
            InstallError::Label(io()),
        ]
        .map(|error| error.to_string());
        let takeover = [
            crate::takeover::TakeoverError::Denied,
            crate::takeover::TakeoverError::Incomplete("x"),
        ]
        .map(|error| error.to_string());
        let missing = crate::programs::hooks_missing(&[]);
        let said: std::collections::BTreeSet<String> = reasons
            .into_iter()
            .chain(takeover)
            .chain(missing)
            .chain([crate::warden::BROKEN_GLASS.to_owned()])
            .filter_map(|text| text.split(':').next().map(str::to_owned))
            .collect();
        let named = rempart_api::guard::MODES
            .iter()
            .map(|mode| (*mode).to_owned())
            .collect();
        assert_eq!(said, named);
        let text = std::fs::read_to_string("../../docs/degraded.md").expect("the document");
        for mode in rempart_api::guard::MODES {
            assert!(text.contains(&format!("| `{mode}` |")), "docs/degraded.md lacks {mode}");
        }
    }

    fn aya_names() -> std::collections::HashSet<String> {
        // The string table of the object holds each symbol between two NULs.
        OBJECT
            .split(|b| *b == 0)
            .filter_map(|s| String::from_utf8(s.to_vec()).ok())
            .collect()
    }
}
