//! The guard socket ([`crate::path::GUARD_SOCKET`]): rempartd asks, rempart-guard answers and streams events.
//!
//! A request that concerns a task carries its pidfd by `SCM_RIGHTS`; a pid in text would name whoever
//! has that number now.

use serde::{Deserialize, Serialize};

/// Enforcement for one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attempts are recorded and let through.
    Observe,
    /// Attempts are refused before any effect, and recorded.
    Enforce,
    /// The same, and then the process that tried is killed.
    Kill,
}

/// Who besides systemd loads BPF programs on an armed machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loader {
    /// Its executable, an absolute path. What counts is the file that is there when the machine is armed.
    pub path: String,
    /// Its programs: what the running kernel computes over the instructions of each, 16 hexadecimal digits (bpftool-prog(8)).
    pub tags: Vec<String>,
}

/// Longest path of a loader, in bytes.
const LOADER_PATH: usize = 240;
/// Loaders and programs that the guard has room for.
const MOST: (usize, usize) = (64, 1024);

/// What is wrong with a list of loaders.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// Not a path.
    #[error("{0:?} is no absolute path of at most {LOADER_PATH} bytes")]
    Path(String),
    /// Not a tag.
    #[error("{0:?} is no tag of a BPF program: 16 hexadecimal digits, as `bpftool prog` shows them")]
    Tag(String),
    /// Too long.
    #[error("more than {} loaders or {} programs", MOST.0, MOST.1)]
    Many,
}

impl Loader {
    /// Judges a whole list.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn check(list: &[Self]) -> Result<(), LoaderError> {
        if list.len() > MOST.0 || list.iter().map(|loader| loader.tags.len()).sum::<usize>() > MOST.1 {
            return Err(LoaderError::Many);
        }
        for loader in list {
            let path = &loader.path;
            if !path.starts_with('/') || path.len() > LOADER_PATH || path.contains('\0') {
                return Err(LoaderError::Path(path.clone()));
            }
            if let Some(tag) = loader.tags.iter().find(|tag| digest(tag).is_none()) {
                return Err(LoaderError::Tag(tag.clone()));
            }
        }
        Ok(())
    }

    /// The tags as the kernel has them; what is none is left out.
    pub fn digests(&self) -> impl Iterator<Item = [u8; 8]> {
        self.tags.iter().filter_map(|tag| digest(tag))
    }
}

fn digest(tag: &str) -> Option<[u8; 8]> {
    let well_formed = tag.len() == 16 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = well_formed.then(|| u64::from_str_radix(tag, 16).ok()).flatten()?;
    Some(value.to_be_bytes())
}

/// How the machine is armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arming {
    /// The node's name, to which a break-glass token is bound.
    pub node: String,
    /// What happens to changes of sealed files; `kill` counts as `enforce`.
    pub files: Mode,
    /// Only the agent, and systemd where it measures, may use the TPM.
    pub tpm_exclusive: bool,
    /// Who else may load BPF programs, and which.
    pub foreign_bpf: Vec<Loader>,
}

/// What the agent may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// What is in force now.
    Status {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
    },
    /// Label the task of the pidfd that comes with it, and all it will start.
    Protect {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// The unit's full name.
        unit: String,
        /// What happens to attempts.
        mode: Mode,
        /// Answer `ok` although nothing can be enforced on this kernel.
        #[serde(default)]
        allow_degraded: bool,
    },
    /// Compare what the unit puts out with the fingerprints in the file whose descriptor comes with it: key, filter, then 8 bytes
    /// each (ebpf/common). They replace those of an earlier request; none lifts them.
    Fingerprints {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// The unit's full name.
        unit: String,
        /// What happens to output with a secret in it.
        mode: Mode,
        /// How many there are; without any no descriptor is needed.
        prints: u32,
        /// Some are of wide windows.
        wide: bool,
        /// At every how many bytes output is looked at for narrow windows; 0 without any.
        step: u32,
    },
    /// Deny machine-wide vectors (foreign BPF, modules, kernel memory, the TPM, changes of Rempart's own files) until the next boot.
    /// Later requests are the agent's alone, and may make it stricter, never looser, unless a token has lifted the files.
    Arm {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// The node's name, to which a break-glass token is bound.
        #[serde(default)]
        node: String,
        /// What happens to changes of sealed files; `kill` counts as `enforce`.
        #[serde(default = "enforce")]
        files: Mode,
        /// Only the agent, and systemd where it measures, may use the TPM.
        #[serde(default)]
        tpm_exclusive: bool,
        /// Who else may load BPF programs, and which.
        #[serde(default)]
        foreign_bpf: Vec<Loader>,
    },
    /// Note a digest under a name, or compare it with what was noted first in this boot. Once armed no new name is taken.
    Remember {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// What it is the digest of, such as `configuration`.
        name: String,
        /// 32 bytes, hexadecimal.
        digest: String,
    },
    /// Lift a protection for a while, by the owner's word.
    BreakGlass {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// The token's text.
        token: String,
        /// Its SSH signature, armored.
        signature: String,
    },
    /// End what a token has lifted before its time.
    Restore {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
    },
    /// Turn this connection into a stream of [`Event`] lines.
    Events {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
    },
}

const fn enforce() -> Mode {
    Mode::Enforce
}

/// What a break-glass token lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lift {
    /// Rempart's own files may be changed: an upgrade, a new configuration. Nothing is released meanwhile.
    Files,
    /// What is denied to the machine as a whole is let through. Nothing is released before the next boot.
    Machine,
}

impl Lift {
    /// As tokens write it.
    pub const fn word(self) -> &'static str {
        match self {
            Lift::Files => "files",
            Lift::Machine => "machine",
        }
    }
}

/// The degraded modes: the first word of [`Status::why`]. Each stands in docs/degraded.md with what it takes away.
pub const MODES: &[&str] = &[
    "no-btf",
    "no-bpf-lsm",
    "lockdown-confidentiality",
    "load-refused",
    "object-refused",
    "maps-refused",
    "no-pins",
    "pins-denied",
    "pins-incomplete",
    "hooks-silent",
    "label-refused",
    "hooks-missing",
    "break-glass",
];

/// One program of the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name in the BPF object.
    pub name: String,
    /// Attached to its hook now.
    pub attached: bool,
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`crate::PROTOCOL_VERSION`].
    pub v: u32,
    /// The kernel refuses attempts on protected tasks now.
    pub enforcing: bool,
    /// The name of the degraded mode (docs/degraded.md) and what to do: why nothing is enforced, or what is not.
    pub why: Option<String>,
    /// Nothing is enforced, but some attempts are recorded. Observation only: much passes unseen.
    #[serde(default)]
    pub observing: bool,
    /// Rows of docs/attacks.md that are not denied now; all of them when nothing is enforced. Empty from a guard of an older release.
    #[serde(default)]
    pub missing_vectors: Vec<String>,
    /// Every program of the object.
    pub programs: Vec<Program>,
    /// Machine-wide vectors are denied.
    pub armed: bool,
    /// Events that did not fit into the ring since boot. The denials took place all the same.
    pub lost: u64,
    /// Files and folders of Rempart's own that are sealed.
    #[serde(default)]
    pub sealed: usize,
    /// Changes of them are recorded only.
    #[serde(default)]
    pub files_observed: bool,
    /// Only the agent, and systemd where it measures, may use the TPM.
    #[serde(default)]
    pub tpm_exclusive: bool,
    /// Who besides systemd may load BPF programs once armed, and which.
    #[serde(default)]
    pub foreign_bpf: Vec<Loader>,
    /// What a break-glass token lifts now.
    #[serde(default)]
    pub lifted: Vec<Lift>,
    /// Seconds until that ends.
    #[serde(default)]
    pub lifted_for_s: u64,
    /// What was lifted at any time since boot.
    #[serde(default)]
    pub was_lifted: Vec<Lift>,
}

/// What became of a request other than `status` and `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Done.
    Done {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// Always true.
        ok: bool,
    },
    /// Not done, nothing changed.
    Refused {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// One line: what, why, what to do.
        refused: String,
    },
}

/// One attempt that a program saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// [`crate::PROTOCOL_VERSION`].
    pub v: u32,
    /// Counts up by one for every event since boot; a gap is a lost event.
    pub seq: u64,
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// Name in docs/attacks.md, such as `PTRACE_ATTACH`.
    pub vector: String,
    /// `denied`, `killed` (denied before, then the process that tried got SIGKILL) or `observed`.
    pub verdict: String,
    /// Thread id of the attempting task, in the first pid namespace.
    pub pid: u32,
    /// Process id of the attempting task, in the first pid namespace.
    pub tgid: u32,
    /// Its real user id, in the first user namespace.
    pub uid: u32,
    /// Its command name.
    pub comm: String,
    /// Process id of the task that was to be reached; 0 for the machine itself.
    pub target_pid: u32,
    /// Unit of that task; empty for the machine itself.
    pub target_unit: String,
    /// Attempts of the same process, vector and unit before this one that were counted instead of recorded. Only observed ones are.
    #[serde(default)]
    pub suppressed: u32,
}
