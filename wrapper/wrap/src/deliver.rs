//! Secrets to what the service will find after exec: descriptors that stay open, and variables.
//!
//! Must never leave a secret in ordinary memory for the modes `fd` and `getenv`. `file` is a sealed memfd: ordinary
//! memory of the service's own, read-only, or where the unit wants it changed while it runs, written to by the agent; `env` is plain, and the unit chose so.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use rempart_api::agent::{Deliver, FILE_FD_BASE, FILE_FD_END, Item};
use rempart_api::path::PRELOAD;
use rempart_secretmem::Area;

use crate::ask::Released;
use crate::error::Error;
use crate::owner;

/// Where the descriptors of `fd` and `getenv` go: above what systemd passes (from 3 up), below the files.
const SECRET_FD_BASE: i32 = 100;

/// What a delivery leaves to be done.
pub struct Delivered {
    /// The environment for the service, made from ours.
    pub environment: BTreeMap<OsString, OsString>,
    /// The files by name, to be written to by whoever replaces what they hold; only when that is wanted.
    pub writable: Vec<(String, OwnedFd)>,
}

/// Carries out every delivery.
///
/// # Errors
/// A value does not fit its mode, or the system refuses; then nothing may be started.
pub fn deliver(released: &Released, own: Vec<(OsString, OsString)>) -> Result<Delivered, Error> {
    let mut writable = Vec::new();
    let mut environment: BTreeMap<OsString, OsString> = own.into_iter().collect();
    environment.retain(|name, _| !name.to_string_lossy().starts_with("REMPART_"));
    // Files have fixed numbers, the others take what is free: in the other order many of these would sit on those.
    for (index, item) in released.items.iter().enumerate() {
        if item.deliver == Deliver::File {
            let file = as_file(
                index,
                item,
                released.value(item),
                released.keeper.is_some(),
                &mut environment,
            )?;
            writable.extend(file.map(|file| (item.name.clone(), file)));
        }
    }
    let mut page = Vec::new();
    for item in &released.items {
        let value = released.value(item);
        match item.deliver {
            Deliver::File => {}
            // systemd has asked for it; a value that comes here all the same is not the unit's to have.
            Deliver::Credential => {
                return Err(Error::AgentProtocol(format!(
                    "{} is a credential of systemd's",
                    item.name
                )));
            }
            Deliver::Fd => as_descriptor(item, value, &mut environment)?,
            Deliver::Env => {
                environment.insert(
                    item.name.clone().into(),
                    OsString::from_vec(without_nul(item, value)?.to_vec()),
                );
            }
            Deliver::Getenv => {
                without_nul(item, value)?;
                // A plain variable of the same name would shine through in children.
                environment.remove(&OsString::from(&item.name));
                page.push((item, value));
            }
        }
    }
    if !page.is_empty() {
        as_environment_page(&page, &mut environment)?;
    }
    Ok(Delivered { environment, writable })
}

fn as_descriptor(item: &Item, value: &[u8], environment: &mut BTreeMap<OsString, OsString>) -> Result<(), Error> {
    if value.is_empty() {
        let why = "is empty, and a memfd_secret descriptor cannot be; set :env or :file for it";
        return Err(Error::Value {
            name: item.name.clone(),
            why,
        });
    }
    let mut area = Area::create(value.len())?;
    area.as_mut_slice().copy_from_slice(value);
    let number = keep(area.into_descriptor(), SECRET_FD_BASE, None)?;
    let word: String = item
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    environment.insert(format!("{word}_FD").into(), number.to_string().into());
    environment.insert(format!("REMPART_FD_{word}").into(), number.to_string().into());
    Ok(())
}

/// The descriptor by which the file can be replaced, when it is `replaced` later.
fn as_file(
    index: usize,
    item: &Item,
    value: &[u8],
    replaced: bool,
    environment: &mut BTreeMap<OsString, OsString>,
) -> Result<Option<OwnedFd>, Error> {
    let number = i32::try_from(index).map_or(i32::MAX, |i| FILE_FD_BASE.saturating_add(i));
    let outside = |why: &str| Error::AgentProtocol(format!("the file of {} {why}", item.name));
    let path = item.path.as_deref().ok_or_else(|| outside("has no path"))?;
    let target = std::fs::read_link(path).map_err(|e| {
        Error::system(
            format!("read the link {path} (is /run/rempart visible in the unit?)"),
            e,
        )
    })?;
    if target.as_os_str() != format!("/proc/self/fd/{number}").as_str() {
        return Err(outside("leads elsewhere than to its descriptor"));
    }
    let made = |e| Error::system("make a sealed file in memory", e);
    let file = memfd_create(c"rempart", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(made)?;
    let mut rest = value;
    while !rest.is_empty() {
        let written = nix::unistd::write(&file, rest).map_err(made)?;
        rest = &rest[written..];
    }
    let mode = item.access.mode.map_or(Mode::S_IRUSR, Mode::from_bits_truncate);
    fchmod(&file, mode).map_err(made)?;
    owner::give(&file, item)?;
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    let seals = SealFlag::F_SEAL_SEAL | if replaced { SealFlag::empty() } else { fixed };
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(made)?;
    // A reader of /dev/fd/N style links gets its own position; one that inherits the number starts at the beginning.
    nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekSet).map_err(made)?;
    // The same open file: this process may open no other by /proc, as it cannot be dumped. The keeper writes at positions of its own. It is
    // above all numbers that files have.
    let writable = replaced.then(|| aside(&file)).transpose()?;
    keep(file, number, Some(number))?;
    environment.insert(
        format!("REMPART_FILE_{}", item.name.replace(['.', '-'], "_")).into(),
        path.into(),
    );
    Ok(writable)
}

/// Another descriptor of it, on none of the files' numbers, which ends with exec.
fn aside(file: &OwnedFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(file, FILE_FD_END).map_err(|e| {
        Error::system(
            format!("open descriptor number {FILE_FD_END} (raise LimitNOFILE= of the unit)"),
            e,
        )
    })
}

/// One page of `NAME=VALUE\0`, and the loader told to bring the interposer that reads it.
fn as_environment_page(
    variables: &[(&Item, &[u8])],
    environment: &mut BTreeMap<OsString, OsString>,
) -> Result<(), Error> {
    let len: usize = variables
        .iter()
        .map(|(item, value)| item.name.len() + 1 + value.len() + 1)
        .sum();
    let mut area = Area::create(len)?;
    let mut rest = area.as_mut_slice();
    for (item, value) in variables {
        for part in [item.name.as_bytes(), b"=", value, b"\0"] {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
    }
    let number = keep(area.into_descriptor(), SECRET_FD_BASE, None)?;
    environment.insert("REMPART_AREA".into(), format!("{number}:{len}").into());
    preload(PRELOAD, environment)
}

/// Tells the loader to bring `library`, before all that the unit may bring itself.
///
/// # Errors
/// It cannot be read: the loader would only warn of that and start the service without it.
pub fn preload(library: &str, environment: &mut BTreeMap<OsString, OsString>) -> Result<(), Error> {
    nix::unistd::access(library, nix::unistd::AccessFlags::R_OK)
        .map_err(|e| Error::system(format!("read {library}"), e))?;
    let list = environment.entry("LD_PRELOAD".into()).or_default();
    let others = std::mem::replace(list, library.into());
    if !others.is_empty() {
        list.push(":");
        list.push(others);
    }
    Ok(())
}

/// A variable ends at its first NUL, so a value with one would arrive cut.
fn without_nul<'a>(item: &Item, value: &'a [u8]) -> Result<&'a [u8], Error> {
    if value.contains(&0) {
        let why = "has a NUL byte, which no variable can hold; set :fd or :file for it";
        return Err(Error::Value {
            name: item.name.clone(),
            why,
        });
    }
    Ok(value)
}

/// Keeps `descriptor` open over exec, at the first free number from `from` up; or at exactly `exact`.
fn keep(descriptor: OwnedFd, from: i32, exact: Option<i32>) -> Result<i32, Error> {
    let number = fcntl(descriptor.as_fd(), FcntlArg::F_DUPFD(from)).map_err(|e| {
        Error::system(
            format!("open descriptor number {from} (raise LimitNOFILE= of the unit)"),
            e,
        )
    })?;
    match exact {
        Some(wanted) if wanted != number => Err(Error::system(
            format!("open descriptor number {wanted}, which is taken (pass fewer sockets, or set :fd for this file)"),
            nix::errno::Errno::EBUSY,
        )),
        _ => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rempart_api::agent::Access;

    use super::*;

    fn item(name: &str, deliver: Deliver) -> Item {
        Item {
            name: name.into(),
            deliver,
            offset: 0,
            len: 0,
            path: None,
            access: Access::default(),
        }
    }

    /// A file whose link in `dir` leads to descriptor `number`.
    fn linked(dir: &tempfile::TempDir, name: &str, number: i32) -> Item {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), &link).expect("link");
        Item {
            path: Some(link.to_string_lossy().into_owned()),
            ..item(name, Deliver::File)
        }
    }

    #[test]
    fn a_secret_descriptor_is_named_in_the_environment_and_survives_exec() {
        let mut environment = BTreeMap::new();
        as_descriptor(&item("tls.key", Deliver::Fd), b"value", &mut environment).expect("memfd_secret");
        let number: i32 = environment[&OsString::from("tls_key_FD")]
            .to_string_lossy()
            .parse()
            .expect("number");
        assert!(number >= SECRET_FD_BASE);
        assert_eq!(
            environment[&OsString::from("REMPART_FD_tls_key")],
            number.to_string().as_str()
        );
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).expect("open");
        assert!(link.to_string_lossy().contains("secretmem"));
        let state = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).expect("open");
        let flags = state
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .expect("flags")
            .trim();
        let flags = i32::from_str_radix(flags, 8).expect("octal");
        assert_eq!(flags & nix::fcntl::OFlag::O_CLOEXEC.bits(), 0);
    }

    #[test]
    fn a_nul_or_an_empty_descriptor_is_refused_without_the_value() {
        let error = without_nul(&item("A", Deliver::Getenv), b"x\0y").expect_err("NUL");
        assert!(error.line().contains("secret A has a NUL"));
        assert!(as_descriptor(&item("A", Deliver::Fd), b"", &mut BTreeMap::new()).is_err());
    }

    #[test]
    fn a_file_whose_link_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let link = dir.path().join("A");
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("link");
        let item = Item {
            path: Some(link.to_string_lossy().into_owned()),
            ..item("A", Deliver::File)
        };
        assert!(matches!(
            as_file(0, &item, b"x", false, &mut BTreeMap::new()),
            Err(Error::AgentProtocol(_))
        ));
    }

    #[test]
    fn many_descriptors_leave_the_numbers_of_the_files_alone() {
        let dir = tempfile::tempdir().expect("dir");
        // More than there are numbers below the first file's, and the files last.
        let count = usize::try_from(FILE_FD_BASE - SECRET_FD_BASE).expect("positive") + 5;
        let mut items: Vec<Item> = (0..count).map(|i| item(&format!("S{i}"), Deliver::Fd)).collect();
        for name in ["first", "second"] {
            let number = FILE_FD_BASE + i32::try_from(items.len()).expect("small");
            items.push(linked(&dir, name, number));
        }
        // Here a descriptor would have sat on the number of a file, had it come first.
        items.swap(0, count);
        let link = dir.path().join("first");
        std::fs::remove_file(&link).expect("link");
        std::os::unix::fs::symlink(format!("/proc/self/fd/{FILE_FD_BASE}"), &link).expect("link");
        for (at, item) in items.iter_mut().enumerate() {
            (item.offset, item.len) = (at, 1);
        }
        let mut area = Area::create(items.len()).expect("memfd_secret");
        for (at, byte) in area.as_mut_slice().iter_mut().enumerate() {
            *byte = b'a' + u8::try_from(at % 26).expect("small");
        }
        let released = Released::of(area, items);
        deliver(&released, Vec::new()).expect("delivered");
        assert_eq!(std::fs::read(&link).expect("readable"), b"a");
        let second = std::fs::read(dir.path().join("second")).expect("readable");
        assert_eq!(second, [b'a' + u8::try_from((count + 1) % 26).expect("small")]);
    }

    #[test]
    fn a_file_is_sealed_at_its_number() {
        let dir = tempfile::tempdir().expect("dir");
        let (link, item) = (dir.path().join("A"), linked(&dir, "A", 237));
        as_file(37, &item, b"content", false, &mut BTreeMap::new()).expect("delivered");
        assert_eq!(std::fs::read(&link).expect("readable"), b"content");
        assert!(std::fs::write(&link, b"other").is_err());
    }

    #[test]
    fn a_file_that_is_to_be_replaced_can_be_written_by_its_keeper() {
        let dir = tempfile::tempdir().expect("dir");
        let (link, item) = (dir.path().join("A"), linked(&dir, "A", 238));
        let kept = as_file(38, &item, b"content", true, &mut BTreeMap::new()).expect("delivered");
        let kept = std::fs::File::from(kept.expect("a descriptor"));
        std::os::unix::fs::FileExt::write_all_at(&kept, b"changed", 0).expect("the keeper's");
        assert_eq!(std::fs::read(&link).expect("readable"), b"changed");
        let own = as_file(39, &item, b"x", false, &mut BTreeMap::new());
        assert!(own.is_err(), "each at its own number");
    }

    #[test]
    fn a_file_has_the_mode_and_owner_of_its_unit_and_stays_sealed() {
        let dir = tempfile::tempdir().expect("dir");
        let (link, mut item) = (dir.path().join("A"), linked(&dir, "A", 245));
        let own = nix::unistd::geteuid().as_raw();
        item.access = Access {
            mode: Some(0o640),
            user: Some(own.to_string()),
            group: Some(nix::unistd::getegid().to_string()),
        };
        as_file(45, &item, b"content", false, &mut BTreeMap::new()).expect("delivered");
        let known = std::fs::metadata(&link).expect("there");
        assert_eq!((known.permissions().mode() & 0o7777, known.uid()), (0o640, own));
        assert!(
            std::fs::write(&link, b"other").is_err(),
            "the bit is for programs that compare"
        );
    }

    #[test]
    fn a_credential_is_none_of_the_wrappers() {
        let mut area = Area::create(1).expect("memfd_secret");
        area.as_mut_slice()[0] = b'x';
        let mut item = item("A", Deliver::Credential);
        item.len = 1;
        let refused = deliver(&Released::of(area, vec![item]), Vec::new());
        assert!(matches!(refused, Err(Error::AgentProtocol(_))));
    }

    #[test]
    fn a_keepers_descriptor_takes_no_number_of_a_file() {
        const ALONE: &str = "deliver::tests::a_keepers_descriptor_takes_no_number_of_a_file";
        // Numbers are the whole process's, and other tests need some of them.
        if std::env::var_os("ALONE").is_none() {
            let own = std::env::current_exe().expect("own path");
            let mut alone = std::process::Command::new(own);
            let ended = alone
                .args(["--exact", ALONE])
                .env("ALONE", "1")
                .output()
                .expect("started");
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        // All below are taken, so that the next free number is a file's.
        let null = std::fs::File::open("/dev/null").expect("there");
        let mut taken = Vec::new();
        while !std::path::Path::new("/proc/self/fd/259").exists() {
            taken.push(null.try_clone().expect("a number"));
        }
        // What was above that is free again.
        taken.retain(|file| std::os::fd::AsRawFd::as_raw_fd(file) < 260);
        let dir = tempfile::tempdir().expect("dir");
        let kept = [61, 62, 63].map(|index| {
            let number = FILE_FD_BASE + i32::try_from(index).expect("small");
            let item = linked(&dir, &index.to_string(), number);
            as_file(index, &item, b"x", true, &mut BTreeMap::new()).map_err(|error| error.line())
        });
        for file in kept {
            let file = file.expect("delivered").expect("kept");
            assert!(std::os::fd::AsRawFd::as_raw_fd(&file) >= FILE_FD_END);
        }
    }
}
