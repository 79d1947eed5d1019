//! The section `[X-Rempart]`: which secrets a unit gets, in which role, and how they are delivered.
//!
//! Must never ignore a key or a value it does not know: a misspelt `Protect=` would weaken a unit in silence. Later
//! files win over earlier ones, as in systemd: `Secret=` appends, an empty `Secret=` starts over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::syntax::{Assignment, Entry, SyntaxError, entries};
use crate::reference::{Reference, ReferenceError};
use rempart_api::{
    agent::{Access, Deliver, MAX_KEPT},
    guard::Mode,
    job::Signal,
};

/// Name of the section.
pub const SECTION: &str = "X-Rempart";
/// Most secrets of one unit: each file delivery takes one descriptor number, and the soft limit on those is 1024.
pub const MAX_SECRETS: usize = 256;
/// Variables that steer the loader, Rempart, or systemd's own conversation with the service.
const RESERVED_PREFIXES: [&str; 10] = [
    "BASH_",
    "GCONV_",
    "GLIBC_",
    "LD_",
    "LISTEN_",
    "MALLOC_",
    "NOTIFY_",
    "REMPART_",
    "SYSTEMD_",
    "WATCHDOG_",
];
/// Variables that systemd sets (systemd.exec(5), "Environment Variables Set") or that name code to run.
const RESERVED: &[&str] = &[
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "ENV",
    "EXIT_CODE",
    "EXIT_STATUS",
    "FDSTORE",
    "HOME",
    "IFS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LOCPATH",
    "LOGNAME",
    "LOGS_DIRECTORY",
    "MAINPID",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NODE_OPTIONS",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PIDFILE",
    "PYTHONHOME",
    "PYTHONPATH",
    "RUBYOPT",
    "RUNTIME_DIRECTORY",
    "SERVICE_RESULT",
    "SHELL",
    "STATE_DIRECTORY",
    "TMPDIR",
    "USER",
    "XDG_RUNTIME_DIR",
];
/// `MemorySize=` when not said, bytes: what most services never reach. A page costs only once it is touched.
const USUAL_HEAP: u64 = 256 << 20;
/// Bounds of `MemorySize=`, bytes. Below, no program starts; above, the allocator's range of addresses ends.
const HEAP: std::ops::RangeInclusive<u64> = 4 << 20..=32 << 30;
/// Bounds of `Offline=stale:` and `Offline=sealed:`.
const STALE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// What `FileMode=` may be: readable for the owner, nothing for everybody, nothing to execute. The bits for writing are for programs that
/// compare; the file itself is sealed.
const FILE_MODES: [(&str, u32); 5] = [
    ("0400", 0o400),
    ("0440", 0o440),
    ("0600", 0o600),
    ("0640", 0o640),
    ("0660", 0o660),
];
/// Longest name of a secret, in bytes: a file name and an environment name at once.
const MAX_NAME: usize = 64;

/// One file of a unit: the fragment or a drop-in.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where it lies, for messages.
    pub path: &'a str,
    /// Its content.
    pub text: &'a str,
}

/// What a unit opted into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptIn {
    /// `Role=`: under which role the node asks; `None` when the unit asks for no secret.
    pub role: Option<String>,
    /// `Secret=`, in the order of the files, each with its delivery resolved.
    pub secrets: Vec<SecretSpec>,
    /// `Secret=NAME:template=`: what only templates use.
    pub ingredients: Vec<Ingredient>,
    /// `Template=`, in the order of the files.
    pub templates: Vec<TemplateSpec>,
    /// `FileMode=` and `FileOwner=`: of those secrets and templates that are files and say so.
    pub access: BTreeMap<String, Access>,
    /// `Protect=`: how the guard treats the unit; `enforce` when not said.
    pub protect: Mode,
    /// `Memory=secret`: most bytes of the secret heap that its program runs on; `None` for ordinary memory.
    pub heap: Option<u64>,
    /// `Leak=`: what becomes of the unit's own output with a secret in it; `observe` when not said, `None` for `off`.
    pub leak: Option<Mode>,
    /// `LeakExcept=`: secrets that the unit puts out in clear.
    pub leak_except: BTreeSet<String>,
    /// `OnRotate=`: what happens when a secret that it was given for a time has to be replaced; `restart` when not said.
    pub on_rotate: OnRotate,
    /// `OnLock=`: what happens when the node is locked; `keep` when not said.
    pub on_lock: OnLock,
    /// `Offline=`: what the unit may start with while the vault is away; `strict` when not said.
    pub offline: Offline,
}

/// What stands in for a vault that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offline {
    /// Nothing.
    Strict,
    /// Values of the last release in this boot, if they are not older than this.
    Stale(Duration),
    /// The same, also of an earlier boot: sealed to the TPM.
    Sealed(Duration),
}

impl Offline {
    /// The time of `stale:`.
    pub fn stale(self) -> Option<Duration> {
        match self {
            Self::Stale(time) => Some(time),
            Self::Strict | Self::Sealed(_) => None,
        }
    }

    /// The time of `sealed:`.
    pub fn sealed(self) -> Option<Duration> {
        match self {
            Self::Sealed(time) => Some(time),
            Self::Strict | Self::Stale(_) => None,
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let bounded = |text| time(text).filter(|time| STALE.contains(time));
        match word.split_once(':') {
            None => (word == "strict").then_some(Self::Strict),
            Some(("stale", text)) => bounded(text).map(Self::Stale),
            Some(("sealed", text)) => bounded(text).map(Self::Sealed),
            Some(_) => None,
        }
    }
}

impl OptIn {
    /// Names in the order of [`Self::wanted`].
    pub fn names(&self) -> impl Iterator<Item = &String> + Clone {
        let secrets = self.secrets.iter().map(|spec| &spec.name);
        secrets.chain(self.ingredients.iter().map(|ingredient| &ingredient.name))
    }

    /// `Role=`; empty when the unit asks for no secret.
    pub fn role(&self) -> &str {
        self.role.as_deref().unwrap_or_default()
    }

    /// What is delivered, and how: the secrets, then the templates.
    pub fn delivered(&self) -> impl Iterator<Item = (&str, Deliver)> {
        delivered(&self.secrets, &self.templates)
    }

    /// What systemd has to ask the agent for.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        let credentials = self.delivered().filter(|(_, deliver)| *deliver == Deliver::Credential);
        credentials.map(|(name, _)| name)
    }

    /// What is asked of the vault: what the secrets refer to, then what only templates use.
    pub fn wanted(&self) -> Vec<Reference> {
        let secrets = self.secrets.iter().map(|spec| &spec.reference);
        let ingredients = self.ingredients.iter().map(|ingredient| &ingredient.reference);
        secrets.chain(ingredients).cloned().collect()
    }
}

/// What happens to a unit that runs when the node is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnLock {
    /// It goes on with what it has.
    Keep,
    /// It is stopped, and started again when the node is unlocked.
    Stop,
}

/// What happens to a unit one of whose secrets is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnRotate {
    /// It is started again, and gets new ones.
    Restart,
    /// Its files are replaced, and its `ExecReload=` is run.
    Reload,
    /// Its files are replaced, and its main process gets this signal.
    Signal(Signal),
    /// Nothing: it is told in journal and status.
    None,
}

impl OnRotate {
    /// Whether the unit goes on running with other secrets in its files.
    pub fn is_in_place(self) -> bool {
        matches!(self, Self::Reload | Self::Signal(_))
    }
}

/// One `Secret=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// The name that the service knows it by.
    pub name: String,
    /// Its own `:mode`, or else the unit's `Deliver=`.
    pub deliver: Deliver,
    /// Where it lies in the vault.
    pub reference: Reference,
}

/// A secret that is delivered in templates only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingredient {
    /// The name that templates know it by.
    pub name: String,
    /// Where it lies in the vault.
    pub reference: Reference,
}

/// One `Template=`: a file of the unit's that is made from a text and the unit's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSpec {
    /// The name that the service knows it by.
    pub name: String,
    /// `file`, `fd` or `credential`.
    pub deliver: Deliver,
    /// The text, an absolute path.
    pub path: String,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {fault}")]
pub struct Error {
    /// The unit file.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// The defect.
    pub fault: Fault,
}

/// A defect in the section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file itself.
    #[error("{0}")]
    Syntax(SyntaxError),
    /// Almost our section.
    #[error("the section is called [{0}], it must be [{SECTION}]")]
    SectionName(String),
    /// A line that is no assignment.
    #[error("this line of [{SECTION}] is not KEY=VALUE")]
    NotAssignment,
    /// A key that does not exist.
    #[error("unknown key {0} in [{SECTION}]")]
    UnknownKey(String),
    /// A value outside the list.
    #[error("{key}= must be {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// `Role=` with odd characters.
    #[error("Role= must be 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`")]
    Role,
    /// `Secret=` of another shape.
    #[error("Secret= must be NAME=MOUNT/PATH#FIELD or NAME:MODE=MOUNT/PATH#FIELD")]
    SecretShape,
    /// `Template=` of another shape.
    #[error("Template= must be NAME=/PATH or NAME:MODE=/PATH, MODE file, fd or credential")]
    TemplateShape,
    /// `FileMode=` of another shape.
    #[error("FileMode= must be NAME=MODE, MODE 0400, 0440, 0600, 0640 or 0660")]
    FileMode,
    /// `FileOwner=` of another shape.
    #[error("FileOwner= must be NAME=USER, NAME=USER:GROUP or NAME=:GROUP, each a name or a number")]
    FileOwner,
    /// Mode or owner of what has none.
    #[error("{0}= names {1}, which is no secret and no template of the unit that is delivered by file")]
    NoSuchFile(&'static str, String),
    /// Templates use names that no secret has twice.
    #[error("Secret=…:template= is for units with a Template=")]
    NoTemplate,
    /// `Secret=` names something that is no reference.
    #[error("{0}")]
    Reference(ReferenceError),
    /// A name that cannot be delivered.
    #[error("the secret name {0} cannot be used: {1}")]
    Name(String, &'static str),
    /// The same name twice.
    #[error("the secret name {0} is given twice")]
    Twice(String),
    /// Two names that become one variable.
    #[error("the secret names {0} and {1} both need the variable {2}; rename one")]
    SameVariable(String, String, String),
    /// `MemorySize=` of nothing.
    #[error("MemorySize= is only for Memory=secret")]
    SizeOfNothing,
    /// More than [`MAX_SECRETS`].
    #[error("more than {MAX_SECRETS} secrets")]
    TooMany,
    /// A variable or a descriptor under `OnRotate=reload`.
    #[error(
        "OnRotate=reload and signal: replace files only, and {0} is delivered by {1}; set :file for it, or OnRotate=restart"
    )]
    NotReplaceable(String, &'static str),
    /// `OnRotate=reload` of nothing.
    #[error("OnRotate=reload and signal: are for units with files to replace")]
    NothingToReplace,
    /// More than one message carries.
    #[error("OnRotate=reload and signal: are for at most {MAX_KEPT} files")]
    TooManyFiles,
    /// An exception for a secret that the unit has not got.
    #[error("LeakExcept= names {0}, which is none of the unit's secrets")]
    NoSuchSecret(String),
    /// Secrets without a role.
    #[error("there are secrets, but no Role=")]
    NoRole,
    /// A section that never says whether to wrap.
    #[error("[{SECTION}] has no Wrap=yes (or Wrap=no)")]
    NoWrap,
}

/// Reads the section over all `files` of one unit, in systemd's order (fragment first, drop-ins by name).
/// `None`: the unit has not opted in, or `Wrap=no`.
///
/// # Errors
/// Any defect inside the section, and any file with the section that cannot be read in only one way.
pub fn read_opt_in(files: &[Source<'_>]) -> Result<Option<OptIn>, Error> {
    let mut draft = Draft::default();
    for file in files.iter().filter(|file| mentions_section(file.text)) {
        draft.read(file)?;
    }
    draft.finish()
}

/// A cheap look that has no false negatives: only such a file can hold the section.
fn mentions_section(text: &str) -> bool {
    text.as_bytes()
        .windows(SECTION.len())
        .any(|w| w.eq_ignore_ascii_case(SECTION.as_bytes()))
}

/// A `Secret=` whose delivery may still depend on a later `Deliver=`.
struct DraftSecret {
    file: String,
    line: usize,
    name: String,
    deliver: Option<Deliver>,
    reference: Reference,
}

#[derive(Default)]
struct Draft {
    seen: Option<(String, usize)>,
    wrap: Option<bool>,
    role: Option<String>,
    deliver: Option<Deliver>,
    protect: Option<Mode>,
    secret_memory: Option<bool>,
    memory_size: Option<u64>,
    leak: Option<Option<Mode>>,
    leak_except: BTreeSet<String>,
    access: BTreeMap<String, Access>,
    on_rotate: Option<OnRotate>,
    on_lock: Option<OnLock>,
    offline: Option<Offline>,
    secrets: Vec<DraftSecret>,
    ingredients: Vec<Ingredient>,
    templates: Vec<TemplateSpec>,
}

impl Draft {
    fn read(&mut self, file: &Source<'_>) -> Result<(), Error> {
        let at = |line: usize| {
            move |fault: Fault| Error {
                file: file.path.to_owned(),
                line,
                fault,
            }
        };
        let found = entries(file.text).map_err(|e| at(e.line())(Fault::Syntax(e)))?;
        let mut inside = false;
        for entry in found {
            match entry {
                Entry::Section { line, name } => {
                    inside = name == SECTION;
                    if !inside && name.trim().eq_ignore_ascii_case(SECTION) {
                        return Err(at(line)(Fault::SectionName(name.into_owned())));
                    }
                    if inside {
                        self.seen = Some((file.path.to_owned(), line));
                    }
                }
                Entry::Assignment(assignment) if inside => {
                    let line = assignment.line;
                    self.assign(assignment, file.path).map_err(at(line))?;
                }
                Entry::Other { line } if inside => return Err(at(line)(Fault::NotAssignment)),
                _ => {}
            }
        }
        Ok(())
    }

    fn assign(&mut self, Assignment { line, key, value, .. }: Assignment, file: &str) -> Result<(), Fault> {
        match key.as_str() {
            "Wrap" => self.wrap = Some(boolean(&value)?),
            "Role" => self.role = Some(role(value)?),
            "Deliver" => {
                let allowed = "getenv, fd, file, env or credential";
                self.deliver = Some(Deliver::from_word(&value).ok_or(Fault::Value {
                    key: "Deliver",
                    allowed,
                })?);
            }
            "Protect" => {
                self.protect = Some(mode(&value).ok_or(Fault::Value {
                    key: "Protect",
                    allowed: "enforce, kill or observe",
                })?);
            }
            "Leak" => {
                self.leak = Some(match (value.as_str(), mode(&value)) {
                    ("off", _) => None,
                    (_, Some(mode)) => Some(mode),
                    (_, None) => {
                        return Err(Fault::Value {
                            key: "Leak",
                            allowed: "off, observe, enforce or kill",
                        });
                    }
                });
            }
            "OnRotate" => {
                let signal = value.strip_prefix("signal:").and_then(Signal::from_word);
                self.on_rotate = Some(match (value.as_str(), signal) {
                    ("restart", _) => OnRotate::Restart,
                    ("reload", _) => OnRotate::Reload,
                    ("none", _) => OnRotate::None,
                    (_, Some(signal)) => OnRotate::Signal(signal),
                    _ => {
                        return Err(Fault::Value {
                            key: "OnRotate",
                            allowed: "restart, reload, signal:HUP, signal:USR1, signal:USR2, signal:WINCH or none",
                        });
                    }
                });
            }
            "OnLock" => {
                self.on_lock = Some(match value.as_str() {
                    "keep" => OnLock::Keep,
                    "stop" => OnLock::Stop,
                    _ => {
                        return Err(Fault::Value {
                            key: "OnLock",
                            allowed: "keep or stop",
                        });
                    }
                });
            }
            "Offline" => {
                self.offline = Some(Offline::parse(&value).ok_or(Fault::Value {
                    key: "Offline",
                    allowed: "strict, or stale: or sealed: and a number with s, m, h or d, from 1s to 30d",
                })?);
            }
            "Memory" => {
                self.secret_memory = Some(match value.as_str() {
                    "secret" => true,
                    "ordinary" => false,
                    _ => {
                        return Err(Fault::Value {
                            key: "Memory",
                            allowed: "secret or ordinary",
                        });
                    }
                });
            }
            "MemorySize" => {
                self.memory_size = Some(size(&value).ok_or(Fault::Value {
                    key: "MemorySize",
                    allowed: "4M to 32G, a number of bytes or one with K, M or G",
                })?);
            }
            "LeakExcept" if value.is_empty() => self.leak_except.clear(),
            "LeakExcept" => self
                .leak_except
                .extend(value.split_ascii_whitespace().map(str::to_owned)),
            "FileMode" if value.is_empty() => self.access.values_mut().for_each(|access| access.mode = None),
            "FileMode" => {
                let (name, mode) = value.split_once('=').ok_or(Fault::FileMode)?;
                let known = FILE_MODES
                    .iter()
                    .find(|(word, _)| *word == mode)
                    .ok_or(Fault::FileMode)?;
                self.access.entry(name.to_owned()).or_default().mode = Some(known.1);
            }
            "FileOwner" if value.is_empty() => self
                .access
                .values_mut()
                .for_each(|access| (access.user, access.group) = (None, None)),
            "FileOwner" => {
                let (name, owner) = value.split_once('=').ok_or(Fault::FileOwner)?;
                let (user, group) = self::owner(owner).ok_or(Fault::FileOwner)?;
                let access = self.access.entry(name.to_owned()).or_default();
                (access.user, access.group) = (user, group);
            }
            "Secret" if value.is_empty() => {
                self.secrets.clear();
                self.ingredients.clear();
            }
            "Template" if value.is_empty() => self.templates.clear(),
            "Template" => {
                let template = template(&value)?;
                self.has_room_for(&template.name)?;
                self.templates.push(template);
            }
            "Secret" => {
                if let Some(ingredient) = ingredient(&value)? {
                    self.has_room_for(&ingredient.name)?;
                    self.ingredients.push(ingredient);
                    return Ok(());
                }
                let (name, deliver, reference) = secret(&value)?;
                self.has_room_for(&name)?;
                self.secrets.push(DraftSecret {
                    file: file.to_owned(),
                    line,
                    name,
                    deliver,
                    reference,
                });
            }
            _ => return Err(Fault::UnknownKey(key)),
        }
        Ok(())
    }

    /// One more of this name.
    fn has_room_for(&self, name: &str) -> Result<(), Fault> {
        let secrets = self.secrets.iter().map(|secret| &secret.name);
        let ingredients = self.ingredients.iter().map(|ingredient| &ingredient.name);
        let templates = self.templates.iter().map(|template| &template.name);
        let mut names = secrets.chain(ingredients).chain(templates);
        if names.clone().count() == MAX_SECRETS {
            return Err(Fault::TooMany);
        }
        match names.any(|other| other == name) {
            true => Err(Fault::Twice(name.to_owned())),
            false => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Option<OptIn>, Error> {
        let Some((file, line)) = self.seen else { return Ok(None) };
        match self.wrap {
            None => {
                return Err(Error {
                    file,
                    line,
                    fault: Fault::NoWrap,
                });
            }
            Some(false) => return Ok(None),
            Some(true) => {}
        }
        if self.templates.is_empty() && !self.ingredients.is_empty() {
            return Err(Error {
                file,
                line,
                fault: Fault::NoTemplate,
            });
        }
        if self.role.is_none() && !(self.secrets.is_empty() && self.ingredients.is_empty()) {
            return Err(Error {
                file,
                line,
                fault: Fault::NoRole,
            });
        }
        let heap = match (self.secret_memory.unwrap_or(false), self.memory_size) {
            (true, size) => Some(size.unwrap_or(USUAL_HEAP)),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Error {
                    file,
                    line,
                    fault: Fault::SizeOfNothing,
                });
            }
        };
        let default = self.deliver.unwrap_or(Deliver::Getenv);
        let resolve = |secret: DraftSecret| {
            let DraftSecret {
                file,
                line,
                name,
                deliver,
                reference,
            } = secret;
            let deliver = deliver.unwrap_or(default);
            name_fits(&name, deliver).map_err(|why| Error {
                file,
                line,
                fault: Fault::Name(name.clone(), why),
            })?;
            Ok(SecretSpec {
                name,
                deliver,
                reference,
            })
        };
        let secrets: Vec<SecretSpec> = self.secrets.into_iter().map(resolve).collect::<Result<_, Error>>()?;
        self.access.retain(|_, access| !access.is_usual());
        let delivered: Vec<_> = delivered(&secrets, &self.templates).collect();
        let is_file = |name: &String| delivered.contains(&(name.as_str(), Deliver::File));
        let stray = self.access.iter().find(|(name, _)| !is_file(name));
        let stray = stray.map(|(name, access)| match access.mode {
            Some(_) => Fault::NoSuchFile("FileMode", name.clone()),
            None => Fault::NoSuchFile("FileOwner", name.clone()),
        });
        let ingredients = self.ingredients.iter().map(|ingredient| &ingredient.name);
        let names: BTreeSet<&String> = secrets.iter().map(|secret| &secret.name).chain(ingredients).collect();
        distinct(delivered.iter().copied())
            .and_then(|()| known(&self.leak_except, &names))
            .and_then(|()| stray.map_or(Ok(()), Err))
            .map_err(|fault| Error {
                file: file.clone(),
                line,
                fault,
            })?;
        let on_rotate = self.on_rotate.unwrap_or(OnRotate::Restart);
        if on_rotate.is_in_place() {
            let fault = match delivered.iter().find(|(_, deliver)| *deliver != Deliver::File) {
                Some((name, deliver)) => Some(Fault::NotReplaceable((*name).to_owned(), deliver.word())),
                None if delivered.is_empty() => Some(Fault::NothingToReplace),
                None => (delivered.len() > MAX_KEPT).then_some(Fault::TooManyFiles),
            };
            if let Some(fault) = fault {
                return Err(Error { file, line, fault });
            }
        }
        Ok(Some(OptIn {
            role: self.role,
            secrets,
            ingredients: self.ingredients,
            templates: self.templates,
            access: self.access,
            protect: self.protect.unwrap_or(Mode::Enforce),
            heap,
            leak: self.leak.unwrap_or(Some(Mode::Observe)),
            leak_except: self.leak_except,
            on_rotate,
            on_lock: self.on_lock.unwrap_or(OnLock::Keep),
            offline: self.offline.unwrap_or(Offline::Strict),
        }))
    }
}

fn mode(value: &str) -> Option<Mode> {
    match value {
        "enforce" => Some(Mode::Enforce),
        "kill" => Some(Mode::Kill),
        "observe" => Some(Mode::Observe),
        _ => None,
    }
}

/// systemd's own words for a boolean.
fn boolean(value: &str) -> Result<bool, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(Fault::Value {
            key: "Wrap",
            allowed: "yes or no",
        }),
    }
}

/// A whole number of one of systemd's units of time.
fn time(text: &str) -> Option<Duration> {
    let (digits, seconds) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3600),
        b'd' => (&text[..text.len() - 1], 24 * 3600),
        _ => return None,
    };
    let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(seconds)
        .map(Duration::from_secs)
}

/// Bytes, with systemd's suffixes (powers of 1024).
fn size(value: &str) -> Option<u64> {
    let (digits, unit) = match value.as_bytes().last()? {
        b'K' => (&value[..value.len() - 1], 1 << 10),
        b'M' => (&value[..value.len() - 1], 1 << 20),
        b'G' => (&value[..value.len() - 1], 1 << 30),
        _ => (value, 1),
    };
    let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .filter(|bytes| HEAP.contains(bytes))
}

/// Whether `name` can be a role: it becomes a part of a request to the vault.
pub fn is_role(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

fn role(value: String) -> Result<String, Fault> {
    if is_role(&value) { Ok(value) } else { Err(Fault::Role) }
}

fn secret(value: &str) -> Result<(String, Option<Deliver>, Reference), Fault> {
    let (left, right) = value.split_once('=').ok_or(Fault::SecretShape)?;
    let (name, deliver) = match left.split_once(':') {
        None => (left, None),
        Some((name, mode)) => (name, Some(Deliver::from_word(mode).ok_or(Fault::SecretShape)?)),
    };
    let reference = right.parse().map_err(Fault::Reference)?;
    Ok((name.to_owned(), deliver, reference))
}

/// `NAME:template=REFERENCE`; `None` for any other.
fn ingredient(value: &str) -> Result<Option<Ingredient>, Fault> {
    let Some((name, reference)) = value
        .split_once('=')
        .and_then(|(left, right)| Some((left.strip_suffix(":template")?, right)))
    else {
        return Ok(None);
    };
    name_fits(name, Deliver::File).map_err(|why| Fault::Name(name.to_owned(), why))?;
    Ok(Some(Ingredient {
        name: name.to_owned(),
        reference: reference.parse().map_err(Fault::Reference)?,
    }))
}

fn template(value: &str) -> Result<TemplateSpec, Fault> {
    let (left, path) = value.split_once('=').ok_or(Fault::TemplateShape)?;
    let (name, deliver) = match left.split_once(':') {
        None => (left, Deliver::File),
        Some((name, "file")) => (name, Deliver::File),
        Some((name, "fd")) => (name, Deliver::Fd),
        Some((name, "credential")) => (name, Deliver::Credential),
        Some(_) => return Err(Fault::TemplateShape),
    };
    name_fits(name, deliver).map_err(|why| Fault::Name(name.to_owned(), why))?;
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        return Err(Fault::TemplateShape);
    }
    Ok(TemplateSpec {
        name: name.to_owned(),
        deliver,
        path: path.to_owned(),
    })
}

/// `USER`, `USER:GROUP` or `:GROUP`; names as useradd(8) takes them, or numbers (not -1, which chown(2) takes for "as it is").
fn owner(text: &str) -> Option<(Option<String>, Option<String>)> {
    let (user, group) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    let valid = |name: &str| {
        let number = name.parse::<u32>().is_ok_and(|id| id != u32::MAX) && !name.starts_with('+');
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let first = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        number || (first && name.len() <= 32 && name.bytes().all(word))
    };
    let user = Some(user).filter(|user| !user.is_empty());
    let good = user.is_none_or(valid) && group.is_none_or(valid) && (user.is_some() || group.is_some());
    good.then(|| (user.map(str::to_owned), group.map(str::to_owned)))
}

/// Whether `name` can serve as a variable (getenv, env) or as a file name and variable part (fd, file, credential).
fn name_fits(name: &str, deliver: Deliver) -> Result<(), &'static str> {
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err("it must have 1 to 64 characters");
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match deliver {
        Deliver::Getenv | Deliver::Env => {
            if !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
                return Err("a variable has letters, digits and `_`, and no digit first");
            }
            if RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                return Err("variables of this prefix are reserved");
            }
            if RESERVED.contains(&name) {
                return Err("programs and shells take this variable for something else than a secret");
            }
        }
        Deliver::Fd | Deliver::File | Deliver::Credential => {
            if name.starts_with('.') || !name.bytes().all(|b| word(b) || matches!(b, b'.' | b'-')) {
                return Err("a file has letters, digits, `_`, `-` and `.`, and no `.` first");
            }
        }
    }
    Ok(())
}

fn delivered<'a>(secrets: &'a [SecretSpec], templates: &'a [TemplateSpec]) -> impl Iterator<Item = (&'a str, Deliver)> {
    let secrets = secrets.iter().map(|spec| (spec.name.as_str(), spec.deliver));
    secrets.chain(templates.iter().map(|spec| (spec.name.as_str(), spec.deliver)))
}

/// The variables that the service finds for a secret: `a.b` and `a_b` delivered as descriptors have the same one.
fn variables(name: &str, deliver: Deliver) -> Vec<String> {
    let word: String = name.replace(['.', '-'], "_");
    match deliver {
        Deliver::Fd => vec![format!("{word}_FD"), format!("REMPART_FD_{word}")],
        Deliver::File => vec![format!("REMPART_FILE_{word}")],
        Deliver::Env | Deliver::Getenv => vec![word],
        // systemd's one variable leads to all of them.
        Deliver::Credential => Vec::new(),
    }
}

fn distinct<'a>(delivered: impl Iterator<Item = (&'a str, Deliver)>) -> Result<(), Fault> {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, deliver) in delivered {
        for variable in variables(name, deliver) {
            if let Some(other) = owners.insert(variable.clone(), name) {
                return Err(Fault::SameVariable(other.to_owned(), name.to_owned(), variable));
            }
        }
    }
    Ok(())
}

/// A misspelt exception would have the secret watched after all.
fn known(excepted: &BTreeSet<String>, names: &BTreeSet<&String>) -> Result<(), Fault> {
    let unknown = |name: &&String| !names.contains(name);
    excepted
        .iter()
        .find(unknown)
        .map_or(Ok(()), |name| Err(Fault::NoSuchSecret(name.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Option<OptIn>, Error> {
        read_opt_in(&[Source { path: "a.conf", text }])
    }

    #[test]
    fn the_documented_drop_in_is_read() {
        let text = "[X-Rempart]\nWrap=yes\nRole=billing\nSecret=DB_PASSWORD=kv/billing#db_password\n\
                    Secret=tls.key:file=kv/web#tls_key\nDeliver=getenv\nProtect=observe\n";
        let opt_in = one(text).expect("valid").expect("opted in");
        assert_eq!(opt_in.role.as_deref(), Some("billing"));
        assert_eq!(opt_in.protect, Mode::Observe);
        assert_eq!(opt_in.secrets[0].deliver, Deliver::Getenv);
        assert_eq!(opt_in.secrets[0].reference.to_string(), "kv/billing#db_password");
        assert_eq!(
            (opt_in.secrets[1].name.as_str(), opt_in.secrets[1].deliver),
            ("tls.key", Deliver::File)
        );
    }

    #[test]
    fn each_mode_of_protection_has_its_word() {
        for (word, mode) in [
            ("enforce", Mode::Enforce),
            ("kill", Mode::Kill),
            ("observe", Mode::Observe),
        ] {
            let opt_in = one(&format!("[X-Rempart]\nWrap=yes\nProtect={word}\n"));
            assert_eq!(opt_in.expect("valid").expect("opted in").protect, mode);
        }
        let misspelt = one("[X-Rempart]\nWrap=yes\nProtect=Kill\n").expect_err("no such word");
        assert!(misspelt.to_string().contains("enforce, kill or observe"));
    }

    #[test]
    fn secret_memory_is_bounded_and_never_half_asked_for() {
        let heap = |text: &str| {
            let opt_in = one(&format!("[X-Rempart]\nWrap=yes\n{text}"));
            opt_in.expect("valid").expect("opted in").heap
        };
        assert_eq!((heap(""), heap("Memory=ordinary\n")), (None, None));
        assert_eq!(heap("Memory=secret\n"), Some(256 << 20));
        assert_eq!(heap("Memory=secret\nMemorySize=1G\n"), Some(1 << 30));
        assert_eq!(heap("MemorySize=4096K\nMemory=secret\n"), Some(4 << 20));
        assert_eq!(size("8388608"), Some(8 << 20));
        for wrong in ["", "M", "-8M", "+8M", "8m", "8 M", "64G", "17179869185G"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_answer_to_a_leak_has_its_word_and_a_secret_may_be_excepted() {
        for (word, mode) in [
            ("Leak=off\n", None),
            ("", Some(Mode::Observe)),
            ("Leak=observe\n", Some(Mode::Observe)),
            ("Leak=enforce\n", Some(Mode::Enforce)),
            ("Leak=kill\n", Some(Mode::Kill)),
        ] {
            let opt_in = one(&format!("[X-Rempart]\nWrap=yes\n{word}"))
                .expect("valid")
                .expect("opted in");
            assert_eq!(opt_in.leak, mode);
        }
        let text = "[X-Rempart]\nWrap=yes\nRole=a\nLeakExcept=A B\nSecret=A=kv/a#b\n";
        assert!(one(text).expect_err("no B").to_string().contains("names B"));
        let opt_in = one(&format!("{text}Secret=B=kv/a#c\n"))
            .expect("valid")
            .expect("opted in");
        assert_eq!(opt_in.leak_except.len(), 2);
        let none = one(&format!("{text}LeakExcept=\n")).expect("valid").expect("opted in");
        assert!(none.leak_except.is_empty());
    }

    #[test]
    fn a_template_has_a_file_of_its_own_and_secrets_that_go_nowhere_else() {
        let text = "[X-Rempart]\nWrap=yes\nRole=a\nSecret=user:template=kv/a#user\nSecret=PW=kv/a#pw\n\
                    Template=app.conf=/etc/app/app.conf.j2\nTemplate=key:fd=/etc/app/key.j2\n";
        let opt_in = one(text).expect("valid").expect("opted in");
        assert_eq!((opt_in.secrets.len(), opt_in.ingredients.len()), (1, 1));
        let templates = opt_in.templates.iter();
        let templates: Vec<_> = templates
            .map(|t| (t.name.as_str(), t.deliver, t.path.as_str()))
            .collect();
        assert_eq!(
            templates,
            [
                ("app.conf", Deliver::File, "/etc/app/app.conf.j2"),
                ("key", Deliver::Fd, "/etc/app/key.j2")
            ]
        );
        for (line, part) in [
            ("Template=x:env=/etc/x", "NAME=/PATH"),
            ("Template=x=etc/x", "NAME=/PATH"),
            ("Template=PW=/etc/x", "twice"),
            ("Template=../x=/etc/x", "file"),
            ("Secret=app.conf=kv/a#b", "twice"),
            ("Template=PW_FD=/etc/x\nSecret=PW:fd=kv/a#b", "twice"),
        ] {
            let error = one(&format!("{text}{line}\n")).expect_err(line).to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = one("[X-Rempart]\nWrap=yes\nRole=a\nSecret=u:template=kv/a#u\n").expect_err("no template");
        assert!(error.to_string().contains("units with a Template="), "{error}");
    }

    #[test]
    fn files_have_the_modes_and_owners_that_are_said_and_nothing_else_has() {
        let text = "[X-Rempart]\nWrap=yes\nRole=a\nSecret=key:file=kv/a#key\nSecret=PW=kv/a#pw\nTemplate=conf=/etc/conf\n\
                    Template=cred:credential=/etc/conf\nSecret=c.x:credential=kv/a#c\n";
        let read = |more: &str| one(&format!("{text}{more}"));
        let opt_in = read("FileMode=key=0640\nFileOwner=key=root:ssl-cert\nFileOwner=conf=:33\n");
        let opt_in = opt_in.expect("valid").expect("opted in");
        let key = &opt_in.access["key"];
        assert_eq!(
            (key.mode, key.user.as_deref(), key.group.as_deref()),
            (Some(0o640), Some("root"), Some("ssl-cert"))
        );
        let conf = &opt_in.access["conf"];
        assert_eq!(
            (conf.mode, conf.user.as_deref(), conf.group.as_deref()),
            (None, None, Some("33"))
        );
        assert_eq!(
            (opt_in.secrets[2].deliver, opt_in.templates[1].deliver),
            (Deliver::Credential, Deliver::Credential)
        );
        let reset = read("FileMode=key=0640\nFileMode=\nFileOwner=nothing=root\nFileOwner=\n");
        assert!(reset.expect("valid").expect("opted in").access.is_empty());
        for (line, part) in [
            ("FileMode=key=0777", "0400, 0440"),
            ("FileMode=key=440", "0400, 0440"),
            ("FileMode=key=0444", "0400, 0440"),
            ("FileMode=key", "0400, 0440"),
            ("FileOwner=key", "NAME=USER"),
            ("FileOwner=key=", "NAME=USER"),
            ("FileOwner=key=:", "NAME=USER"),
            ("FileOwner=key=a:", "NAME=USER"),
            ("FileOwner=key=a b", "NAME=USER"),
            ("FileOwner=key=-1", "NAME=USER"),
            ("FileOwner=key=4294967295", "NAME=USER"),
            ("FileOwner=key=a:b:c", "NAME=USER"),
            ("FileMode=PW=0400", "FileMode= names PW"),
            ("FileOwner=c.x=root", "FileOwner= names c.x"),
            ("FileMode=none=0400", "FileMode= names none"),
        ] {
            let error = read(&format!("{line}\n")).expect_err(line).to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn an_outage_and_an_end_each_have_a_safe_default() {
        let opt_in = |more: &str| {
            one(&format!("[X-Rempart]\nWrap=yes\n{more}"))
                .expect("valid")
                .expect("opted in")
        };
        assert_eq!(
            (opt_in("").on_rotate, opt_in("").offline),
            (OnRotate::Restart, Offline::Strict)
        );
        assert_eq!(opt_in("OnRotate=none\n").on_rotate, OnRotate::None);
        let files = "Role=a\nSecret=k:file=kv/a#b\n";
        assert_eq!(opt_in(&format!("{files}OnRotate=reload\n")).on_rotate, OnRotate::Reload);
        assert_eq!(
            opt_in(&format!("{files}OnRotate=signal:HUP\n")).on_rotate,
            OnRotate::Signal(Signal::Hup)
        );
        assert_eq!(
            (opt_in("").on_lock, opt_in("OnLock=stop\n").on_lock),
            (OnLock::Keep, OnLock::Stop)
        );
        for (word, seconds) in [("90s", 90), ("5m", 300), ("2h", 7200), ("30d", 30 * 24 * 3600)] {
            let time = Duration::from_secs(seconds);
            let offline = |kind: &str| opt_in(&format!("Offline={kind}:{word}\n")).offline;
            assert_eq!(offline("stale"), Offline::Stale(time));
            assert_eq!(offline("sealed"), Offline::Sealed(time));
        }
        assert_eq!(opt_in("Offline=stale:1h\nOffline=strict\n").offline, Offline::Strict);
    }

    #[test]
    fn later_files_win_and_an_empty_secret_starts_over() {
        let first = "[X-Rempart]\nWrap=yes\nRole=a\nSecret=A=kv/a#b\n";
        let second = "[X-Rempart]\nRole=b\nSecret=\nSecret=B=kv/a#b\n";
        let files = [
            Source { path: "1", text: first },
            Source {
                path: "2",
                text: second,
            },
        ];
        let opt_in = read_opt_in(&files).expect("valid").expect("opted in");
        assert_eq!(opt_in.role.as_deref(), Some("b"));
        assert_eq!(opt_in.secrets.len(), 1);
        let off = Source {
            path: "3",
            text: "[X-Rempart]\nWrap=no\n",
        };
        assert_eq!(read_opt_in(&[files[0], off]), Ok(None));
    }

    #[test]
    fn a_unit_without_the_section_has_not_opted_in_however_broken_it_is() {
        assert_eq!(one("[Service\r\nExecStart"), Ok(None));
        assert_eq!(one("# about X-Rempart\n[Service]\nUser=x\n"), Ok(None));
    }

    #[test]
    fn every_defect_names_its_line() {
        for (text, line, part) in [
            ("[X-Rempart]\nWrap=yes\nRoll=x\n", 3, "unknown key Roll"),
            ("[X-Rempart]\nWrap=perhaps\n", 2, "Wrap="),
            ("[X-Rempart]\nWrap=yes\nProtect=deny\n", 3, "Protect="),
            ("[X-Rempart]\nWrap=yes\nLeak=deny\n", 3, "Leak="),
            ("[X-Rempart]\nWrap=yes\nDeliver=mail\n", 3, "Deliver="),
            ("[X-Rempart]\nWrap=yes\nOnRotate=reboot\n", 3, "OnRotate="),
            ("[X-Rempart]\nWrap=yes\nOnRotate=signal:KILL\n", 3, "OnRotate="),
            ("[X-Rempart]\nWrap=yes\nOnRotate=reload\n", 1, "files to replace"),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nOnRotate=signal:USR1\nSecret=A:file=kv/a#b\nSecret=B=kv/a#b\n",
                1,
                "B is delivered by getenv",
            ),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nOnRotate=reload\nSecret=A:template=kv/a#b\nTemplate=c:fd=/t\n",
                1,
                "c is delivered by fd",
            ),
            ("[X-Rempart]\nWrap=yes\nOnLock=kill\n", 3, "OnLock="),
            ("[X-Rempart]\nWrap=yes\nOffline=stale\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=stale:31d\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=stale:0s\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=sealed\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=sealed:31d\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=strict:1h\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nOffline=stale:-1h\n", 3, "Offline="),
            ("[X-Rempart]\nWrap=yes\nMemory=Secret\n", 3, "Memory="),
            (
                "[X-Rempart]\nWrap=yes\nMemory=secret\nMemorySize=3M\n",
                4,
                "MemorySize=",
            ),
            ("[X-Rempart]\nWrap=yes\nMemorySize=64M\n", 1, "only for Memory=secret"),
            ("[X-Rempart]\nWrap=yes\nhello\n", 3, "not KEY=VALUE"),
            ("[x-rempart]\nWrap=yes\n", 1, "must be [X-Rempart]"),
            ("[X-Rempart]\nRole=x\n", 1, "no Wrap="),
            ("[X-Rempart]\nWrap=yes\nSecret=A=kv/a#b\n", 1, "no Role="),
            ("[X-Rempart]\nWrap=yes\nRole=a b\n", 3, "Role="),
            ("[X-Rempart]\nWrap=yes\nRole=a\nSecret=A\n", 4, "NAME=MOUNT"),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=A=kv/../x#b\n",
                4,
                "not of the form",
            ),
            ("[X-Rempart]\nWrap=yes\nRole=a\nSecret=A:post=kv/a#b\n", 4, "NAME=MOUNT"),
            ("[X-Rempart]\nWrap=yes\nRole=a\nSecret=tls.key=kv/a#b\n", 4, "variable"),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=LD_PRELOAD=kv/a#b\n",
                4,
                "reserved",
            ),
            ("[X-Rempart]\nWrap=yes\nRole=a\nSecret=../x:file=kv/a#b\n", 4, "file"),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=A=kv/a#b\nSecret=A=kv/a#c\n",
                5,
                "twice",
            ),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=PATH=kv/a#b\n",
                4,
                "something else",
            ),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=BASH_ENV:env=kv/a#b\n",
                4,
                "reserved",
            ),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nDeliver=fd\nSecret=a.b=kv/a#b\nSecret=a_b=kv/a#b\n",
                1,
                "both need the variable a_b_FD",
            ),
            (
                "[X-Rempart]\nWrap=yes\nRole=a\nSecret=A:fd=kv/a#b\nSecret=A_FD:env=kv/a#b\n",
                1,
                "both need the variable A_FD",
            ),
            ("[X-Rempart]\r\nWrap=yes\r\n", 1, "carriage return"),
        ] {
            let error = one(text).expect_err(text);
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn more_secrets_than_the_limit_are_refused() {
        let many: String = (0..=MAX_SECRETS).map(|i| format!("Secret=A{i}=kv/a#b\n")).collect();
        let error = one(&format!("[X-Rempart]\nWrap=yes\nRole=a\n{many}")).expect_err("too many");
        assert_eq!(error.fault, Fault::TooMany);
    }
}
