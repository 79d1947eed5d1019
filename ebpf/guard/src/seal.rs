//! Which files are Rempart's own, and how the programs learn them: the guard opens each, and the program at file_open notes its inode as
//! it sees it (on overlayfs stat(2) tells other numbers). Nothing is written here, and a file that is not there is not sealed.

use crate::{
    foreign,
    maps::{Maps, MapsError},
    options::Options,
};
use rempart_bpf_common::{Config, EXE_AGENT_UNIT, EXE_GUARD_UNIT, Flags, Label, Mode, Seal};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Whose events it is when one of systemd's programs is concerned that measure the boot.
const MEASURE_UNIT: &str = "systemd-measure.service";
/// They extend PCRs at a boot's stages, also after the machine was armed.
const MEASURING: &[&str] = &[
    "/usr/lib/systemd/systemd-pcrextend",
    "/usr/lib/systemd/systemd-pcrphase",
    "/usr/lib/systemd/systemd-tpm2-setup",
];
/// Folders that are sealed with all that is in them.
const FOLDERS: &[&str] = &["/usr/lib/rempart", "/etc/rempart"];
/// Single files.
const FILES: &[&str] = &[
    "/usr/bin/rempart",
    "/usr/lib/systemd/system-generators/rempart-generator",
    "/usr/lib/tmpfiles.d/rempart.conf",
    "/usr/lib/sysusers.d/rempart.conf",
    "/etc/ld.so.preload",
];
/// Folders of which the files that begin with one of our names are sealed.
const SHARED_FOLDERS: &[(&str, &str)] = &[
    ("/usr/lib/systemd/system", "rempart"),
    ("/usr/share/dbus-1/system.d", "org.rempart."),
];
/// The loader reads its ld.so.preload.
const PRELOAD_FOLDER: &str = "/etc";
/// Folders in folders are followed so far.
const DEPTH: usize = 4;

/// What is sealed, held open: an overlay gives a folder another number once the kernel has forgotten it.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<fs::File>);

impl Held {
    /// Holds these as well.
    pub(crate) fn extend(&mut self, more: Held) {
        self.0.extend(more.0);
    }
}

/// What the programs note of a file when it is opened.
struct Lesson {
    path: PathBuf,
    /// The label that a process gets by executing it.
    label: Option<Label>,
    /// Bits of [`Seal`].
    seal: u32,
    /// The number of its list, if it loads foreign BPF programs.
    loader: u32,
}

/// Has the programs learn executables and files anew. What they open meanwhile is learnt of this thread only.
pub(crate) fn learn(maps: &mut Maps, options: &Options) -> Result<Held, MapsError> {
    maps.forget_executables();
    let guard = Label::new(maps.unit(EXE_GUARD_UNIT)?, Mode::Enforce, Flags::Guard);
    let agent = Label::new(maps.unit(EXE_AGENT_UNIT)?, Mode::Enforce, Flags::Agent);
    let measure = Label::new(maps.unit(MEASURE_UNIT)?, Mode::Enforce, Flags::Tpm);
    let lesson = |path: &Path, label, seal| Lesson {
        path: path.to_owned(),
        label,
        seal,
        loader: 0,
    };
    let executable = |path, label| lesson(path, Some(label), Seal::File as u32);
    let mut all = vec![
        executable(Path::new("/proc/self/exe"), guard),
        executable(&options.agent, agent),
    ];
    all.extend(MEASURING.iter().map(|path| executable(Path::new(path), measure)));
    // Mapped before there was a program to note it. The agent's is noted when it maps it.
    all.extend(own_code().iter().map(|path| lesson(path, None, Seal::Code as u32)));
    all.extend(plan().iter().map(|(path, seal)| lesson(path, None, *seal)));
    all.extend(of_loaders(maps));
    let held = teach(maps, &all)?;
    if !maps.knows_the_agent() {
        eprintln!(
            "<4>rempart-guard: {} cannot be learnt: it must register itself",
            options.agent.display()
        );
    }
    Ok(held)
}

/// Has the programs learn who loads foreign BPF programs, and nothing else.
pub(crate) fn learn_loaders(maps: &mut Maps) -> Result<Held, MapsError> {
    maps.foreign.forget_executables();
    let all = of_loaders(maps);
    teach(maps, &all)
}

fn of_loaders(maps: &Maps) -> Vec<Lesson> {
    let lesson = |(path, loader)| Lesson {
        path: PathBuf::from(path),
        label: None,
        seal: Seal::File as u32,
        loader,
    };
    foreign::numbers(maps).into_iter().map(lesson).collect()
}

/// Opens each file while the programs learn; who cannot be opened is not learnt.
fn teach(maps: &mut Maps, lessons: &[Lesson]) -> Result<Held, MapsError> {
    let config = maps.config()?;
    let mut open = |lesson: &Lesson| {
        maps.set_config(&Config {
            learn: lesson.label.unwrap_or(Config::EMPTY.learn),
            learn_seal: lesson.seal,
            learn_loader: lesson.loader,
            learn_tid: nix::unistd::gettid().as_raw().unsigned_abs(),
            ..config
        })?;
        let file = open_file(&lesson.path);
        if let (Err(error), true) = (&file, lesson.loader != 0) {
            let path = lesson.path.display();
            eprintln!("<4>rempart-guard: {path} cannot be learnt ({error}): its BPF programs are refused");
        }
        Ok::<_, MapsError>(file.ok())
    };
    let held: Result<Vec<_>, _> = lessons.iter().filter_map(|lesson| open(lesson).transpose()).collect();
    // Whatever came of it: what this thread opens from now on is nothing of ours.
    maps.set_config(&config)?;
    Ok(Held(held?))
}

/// A loader is named by others: a pipe in its place must hold nobody up.
fn open_file(path: &Path) -> std::io::Result<fs::File> {
    fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Opens what is sealed and learns nothing: what is on the disk once armed may be root's.
pub(crate) fn hold(maps: &Maps) -> Held {
    let loaders = foreign::numbers(maps).into_keys().map(PathBuf::from);
    let paths = plan().into_keys().chain(loaders);
    Held(paths.filter_map(|path| open_file(&path).ok()).collect())
}

/// Every path with its seals.
fn plan() -> BTreeMap<PathBuf, u32> {
    let mut plan = BTreeMap::new();
    for folder in FOLDERS {
        with_all_in(Path::new(folder), DEPTH, &mut plan);
    }
    for file in FILES {
        add(&mut plan, Path::new(file), Seal::File);
    }
    for (folder, prefix) in SHARED_FOLDERS {
        for path in entries(Path::new(folder)) {
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            {
                add(&mut plan, &path, Seal::File);
            }
        }
    }
    add(&mut plan, Path::new(PRELOAD_FOLDER), Seal::Preload);
    let above: Vec<PathBuf> = plan
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| folder.parent().is_some())
        .map(Path::to_owned)
        .collect();
    for folder in above {
        add(&mut plan, &folder, Seal::Name);
    }
    plan
}

fn add(plan: &mut BTreeMap<PathBuf, u32>, path: &Path, seal: Seal) {
    if path.exists() {
        *plan.entry(path.to_owned()).or_default() |= seal as u32;
    }
}

fn with_all_in(folder: &Path, depth: usize, plan: &mut BTreeMap<PathBuf, u32>) {
    if !folder.is_dir() {
        return;
    }
    add(plan, folder, Seal::Folder);
    for path in entries(folder) {
        if path.is_file() {
            add(plan, &path, Seal::File);
        } else if depth > 0 && !path.is_symlink() {
            with_all_in(&path, depth - 1, plan);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The loader and the libraries of this process.
fn own_code() -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/maps").unwrap_or_else(|error| {
        eprintln!("<3>rempart-guard: its own code is not known ({error}): once armed it cannot be started again");
        String::new()
    });
    code_of(&table)
}

/// proc_pid_maps(5): addresses, permissions, offset, device, inode, path.
fn code_of(table: &str) -> BTreeSet<PathBuf> {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(1).is_some_and(|mode| mode.contains('x')))
        .filter_map(|fields| fields.get(5).filter(|path| path.starts_with('/')).map(PathBuf::from))
        .collect()
}

/// Major number of the TPM's devices; 0 where the kernel has none.
pub(crate) fn tpm_major() -> std::io::Result<u32> {
    Ok(major_of(&fs::read_to_string("/proc/devices")?, "tpm"))
}

fn major_of(devices: &str, name: &str) -> u32 {
    let characters = devices.split("Block devices:").next().unwrap_or_default();
    characters
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .find(|(_, driver)| driver.trim() == name)
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_sealed_with_what_is_in_it_and_links_are_not_followed_into_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("conf.d")).expect("made");
        fs::write(at("conf.d/a.toml"), "").expect("written");
        fs::write(at("ca.pem"), "").expect("written");
        std::os::unix::fs::symlink("/", at("everything")).expect("linked");
        let mut plan = BTreeMap::new();
        with_all_in(folder.path(), DEPTH, &mut plan);
        let sealed: BTreeMap<_, _> = [
            (folder.path().to_owned(), Seal::Folder as u32),
            (at("conf.d"), Seal::Folder as u32),
            (at("conf.d/a.toml"), Seal::File as u32),
            (at("ca.pem"), Seal::File as u32),
        ]
        .into();
        assert_eq!(plan, sealed);
    }

    #[test]
    fn code_is_what_is_mapped_executable_from_a_file() {
        let table = "\
7f00-7f01 r--p 00000000 fe:01 12 /usr/lib/libc.so.6
7f01-7f02 r-xp 00001000 fe:01 12 /usr/lib/libc.so.6
7f02-7f03 rw-p 00000000 00:00 0 [heap]
7f03-7f04 r-xp 00000000 00:00 0 [vdso]
7f04-7f05 r--p 00000000 fe:01 13 /etc/passwd
";
        assert_eq!(code_of(table), [PathBuf::from("/usr/lib/libc.so.6")].into());
        assert!(own_code().len() > 1);
    }

    #[test]
    fn the_tpms_major_is_that_of_the_character_devices() {
        let devices = "Character devices:\n  1 mem\n253 tpm\n\nBlock devices:\n  7 tpm\n";
        assert_eq!(major_of(devices, "tpm"), 253);
        assert_eq!(
            major_of("Character devices:\n 10 misc\n\nBlock devices:\n  7 tpm\n", "tpm"),
            0
        );
    }
}
