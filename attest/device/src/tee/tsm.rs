//! configfs-tsm (Linux Documentation/ABI/testing/configfs-tsm-report, since 6.7): make an entry, write what the report is to be
//! over, read the report. One interface for every TEE; the driver's name says which it is.
//!
//! The kernel counts writes to an entry in `generation`: if there were others than ours, the report is not over our data and is
//! thrown away. Must never leave an entry behind, and never take another program's.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use rempart_attest::{Blob, TeeEvidence, TeeKind, TeeProvider, limits};

use super::{ReportRequest, ReportSource, TeeError};

/// Where configfs has it.
pub const ROOT: &str = "/sys/kernel/config/tsm/report";
/// What our entries' names begin with.
const PREFIX: &str = "rempart-";
/// Tries until an entry stood still. It is ours alone, so once would do.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// Age at which one of our entries belongs to a process that was killed: twice what rempart-evidence@.service may live.
const STALE: Duration = Duration::from_secs(60);
/// Text attributes, bytes: a name or a number.
const TEXT: usize = 64;

/// The interface, wherever it is mounted.
#[derive(Debug)]
pub struct ConfigfsTsm<T = Configfs> {
    tree: T,
}

/// The few things that are done to an entry's attributes. Apart from the logic, because a configfs without a TEE cannot be
/// imitated by a plain folder: there, making an entry makes its attributes.
pub trait Tree: Send {
    /// Makes an entry of our own.
    fn make(&mut self) -> io::Result<()>;
    /// Removes it.
    fn remove(&mut self);
    /// Reads an attribute, at most `max` bytes and one.
    fn read(&mut self, attribute: &str, max: usize) -> io::Result<Vec<u8>>;
    /// Writes an attribute at once.
    fn write(&mut self, attribute: &str, bytes: &[u8]) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub struct Configfs {
    root: PathBuf,
    entry: PathBuf,
}

impl Default for ConfigfsTsm {
    fn default() -> Self {
        Self::at(Path::new(ROOT))
    }
}

impl ConfigfsTsm {
    /// With another mount point.
    pub fn at(root: &Path) -> Self {
        Self {
            tree: Configfs {
                root: root.to_owned(),
                entry: root.join(format!("{PREFIX}{}", std::process::id())),
            },
        }
    }
}

impl<T: Tree> ReportSource for ConfigfsTsm<T> {
    fn provider(&self) -> TeeProvider {
        TeeProvider::ConfigfsTsm
    }

    fn report(&mut self, request: &ReportRequest) -> Result<TeeEvidence, TeeError> {
        match self.tree.make() {
            Ok(()) => {}
            // No `report` folder: kernel before 6.7, configfs not mounted, or no module tsm.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(TeeError::NoInterface {
                    provider: TeeProvider::ConfigfsTsm,
                    path: ROOT.into(),
                });
            }
            Err(error) if error.raw_os_error() == Some(ENXIO) => return Err(TeeError::NoDriver),
            Err(why) => return Err(io_error("make an entry")(why)),
        }
        let result = settle(&mut self.tree, request);
        self.tree.remove();
        result
    }
}

const ENXIO: i32 = 6;

/// Reads until nobody else wrote in between.
fn settle(tree: &mut impl Tree, request: &ReportRequest) -> Result<TeeEvidence, TeeError> {
    let kind = driver(tree)?;
    for _ in 0..TRIES {
        if let Some([report, certificates]) = attempt(tree, request)? {
            return Ok(TeeEvidence {
                kind,
                provider: TeeProvider::ConfigfsTsm,
                report: Blob(report),
                certificates: Blob(certificates),
                runtime_data: Blob::default(),
            });
        }
        thread::sleep(PAUSE);
    }
    Err(TeeError::Contended { tries: TRIES })
}

fn driver(tree: &mut impl Tree) -> Result<TeeKind, TeeError> {
    match text(tree, "provider")?.as_str() {
        "sev_guest" => Ok(TeeKind::SevSnp),
        "tdx_guest" => Ok(TeeKind::Tdx),
        other => Err(TeeError::UnknownDriver { name: other.to_owned() }),
    }
}

/// Report and certificates; `None` when another write came in between.
fn attempt(tree: &mut impl Tree, request: &ReportRequest) -> Result<Option<[Vec<u8>; 2]>, TeeError> {
    let before = number(tree, "generation")?;
    let mut writes = 0;
    if let Some(level) = privilege_level(tree, request.vmpl)? {
        let written = tree.write("privlevel", level.to_string().as_bytes());
        match (written, request.vmpl) {
            (Ok(()), _) => writes += 1,
            (Err(error), _) if contended(&error) => return Ok(None),
            (Err(error), Some(vmpl)) if error.kind() == ErrorKind::NotFound => return Err(TeeError::NoVmpl { vmpl }),
            (Err(why), _) => return Err(io_error("write privlevel")(why)),
        }
    }
    match tree.write("inblob", &request.report_data.0) {
        Ok(()) => writes += 1,
        Err(error) if contended(&error) => return Ok(None),
        Err(why) => return Err(io_error("write inblob")(why)),
    }
    let Some(report) = blob(tree, "outblob", limits::TEE_REPORT)? else {
        return Ok(None);
    };
    let Some(certificates) = blob(tree, "auxblob", limits::TEE_CERTIFICATES)? else {
        return Ok(None);
    };
    if number(tree, "generation")? != before.wrapping_add(writes) {
        return Ok(None);
    }
    match report.is_empty() {
        true => Err(malformed("outblob", limits::TEE_REPORT)),
        false => Ok(Some([report, certificates])),
    }
}

/// The level to write. Nothing is written where nothing was asked for and the kernel's own choice, 0, is allowed: under an SVSM
/// (floor above 0) it is not.
fn privilege_level(tree: &mut impl Tree, vmpl: Option<u8>) -> Result<Option<u64>, TeeError> {
    if let Some(vmpl) = vmpl {
        return Ok(Some(u64::from(vmpl)));
    }
    match tree.read("privlevel_floor", TEXT) {
        Ok(bytes) => Ok(Some(parse(&bytes, "privlevel_floor")?).filter(|floor| *floor > 0)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(io_error("read privlevel_floor")(why)),
    }
}

/// A binary attribute; empty where the driver has none, `None` when the entry was written to meanwhile.
fn blob(tree: &mut impl Tree, name: &'static str, max: usize) -> Result<Option<Vec<u8>>, TeeError> {
    match tree.read(name, max) {
        Ok(bytes) if bytes.len() > max => Err(malformed(name, max)),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound && name == "auxblob" => Ok(Some(Vec::new())),
        Err(error) if contended(&error) => Ok(None),
        Err(why) => Err(io_error("read the report")(why)),
    }
}

/// EWOULDBLOCK: a newer write makes the report stale. EBUSY: too many writes without a read.
fn contended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::ResourceBusy | ErrorKind::Interrupted
    )
}

fn text(tree: &mut impl Tree, name: &'static str) -> Result<String, TeeError> {
    let bytes = tree.read(name, TEXT).map_err(io_error("read an attribute"))?;
    let text = str::from_utf8(&bytes).map_err(|_| malformed(name, TEXT))?.trim();
    match bytes.len() <= TEXT && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(malformed(name, TEXT)),
    }
}

fn number(tree: &mut impl Tree, name: &'static str) -> Result<u64, TeeError> {
    parse(text(tree, name)?.as_bytes(), name)
}

fn parse(bytes: &[u8], name: &'static str) -> Result<u64, TeeError> {
    let text = str::from_utf8(bytes).ok();
    text.and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| malformed(name, TEXT))
}

fn malformed(what: &'static str, max: usize) -> TeeError {
    TeeError::Malformed {
        provider: TeeProvider::ConfigfsTsm,
        what,
        max,
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> TeeError {
    move |why| TeeError::Io {
        provider: TeeProvider::ConfigfsTsm,
        what,
        why,
    }
}

impl Configfs {
    /// Removes entries of ours whose processes were killed before they could. Best effort: they cost the kernel some memory.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.flatten() {
            let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            let made = entry.metadata().and_then(|about| about.modified());
            let old = made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > STALE));
            if ours && old {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Tree for Configfs {
    fn make(&mut self) -> io::Result<()> {
        self.sweep();
        match fs::create_dir(&self.entry) {
            // Of an earlier process with our number: nobody else has it now.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_dir(&self.entry)?;
                fs::create_dir(&self.entry)
            }
            made => made,
        }
    }

    fn remove(&mut self) {
        let _ = fs::remove_dir(&self.entry);
    }

    fn read(&mut self, attribute: &str, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.entry.join(attribute))?;
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// configfs takes a binary attribute when the file is closed, and tells errors then; a text attribute at each write.
    fn write(&mut self, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(self.entry.join(attribute))?;
        file.write_all(bytes)
    }
}

#[cfg(test)]
#[path = "tsm_tests.rs"]
mod tests;
