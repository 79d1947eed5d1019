//! Who may ask what, and the answers. The caller is judged by the kernel's word: its uid, and once armed
//! by the label of its own process.

use crate::{
    enforcement::Enforcement,
    install::Installed,
    maps::{Maps, MapsError, Rings, UNIT_NAME_LEN},
    programs, raw,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rempart_api::{
    PROTOCOL_VERSION,
    guard::{Mode, Outcome, Status},
};
use rempart_bpf_common::{EXE_AGENT_UNIT, EXE_GUARD_UNIT, Flags, Label, Mode as LabelMode};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard},
};

/// Why a request is refused. One line each: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nothing is enforced.
    #[error("not protected: degraded mode {0}")]
    Degraded(String),
    /// No task was named.
    #[error("not protected: the request carried no pidfd; send the task's pidfd by SCM_RIGHTS with it")]
    NoPidfd,
    /// The pidfd is of no use.
    #[error("not protected: the descriptor is no pidfd of a living process ({0}); send the pidfd of its main thread")]
    BadPidfd(String),
    /// A name that is none.
    #[error("not protected: {0:?} is not a unit's name")]
    UnitName(String),
    /// Somebody else's name.
    #[error("not protected: {0} is the guard's own name")]
    Reserved(String),
    /// It has another label.
    #[error("not protected: the process belongs to {0} already; a label is never changed")]
    OtherUnit(String),
    /// The kernel's tables are full.
    #[error(
        "not protected: the kernel's table of protected tasks or cgroups is full ; what is in it stays protected; stop units, or give rempart-guard more --room and reboot"
    )]
    Full,
    /// The programs know the agent by its executable.
    #[error(
        "refused: rempartd is known when PID 1 starts it and need not register; run: systemctl restart rempartd, or reboot after an upgrade"
    )]
    AgentIsKnown,
    /// The caller is not the agent.
    #[error("refused: since the machine was armed only rempartd, started by PID 1, may ask this")]
    NotTheAgent,
    /// The kernel refused.
    #[error("not protected: the kernel refused the label ({0})")]
    Label(String),
    /// A tracer that is there before the label keeps its access.
    #[error(
        "not protected: the process is being traced, or another answers its system calls; end its tracer (strace, a debugger) or its supervisor, then start the unit again"
    )]
    Traced,
    /// The maps failed.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// A connected caller.
pub(crate) struct Peer {
    /// Its process.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// The guard's state, shared by all connections.
pub(crate) struct Warden {
    enforcement: Mutex<Enforcement>,
}

impl Warden {
    pub(crate) fn new(enforcement: Enforcement) -> Self {
        Warden {
            enforcement: Mutex::new(enforcement),
        }
    }

    /// A panic elsewhere leaves the maps as whole as they were: each change is one system call.
    fn locked(&self) -> MutexGuard<'_, Enforcement> {
        self.enforcement.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is in force.
    pub(crate) fn status(&self) -> Status {
        match &*self.locked() {
            Enforcement::Degraded { why, observer } => Status {
                v: PROTOCOL_VERSION,
                why: Some(why.clone()),
                observing: observer.is_some(),
                missing_vectors: programs::missing(&[]),
                lost: observer.as_ref().map_or(0, |observer| observer.lost()),
                ..Status::default()
            },
            Enforcement::Active { installed, .. } => Status {
                v: PROTOCOL_VERSION,
                enforcing: true,
                observing: false,
                why: programs::hooks_missing(&installed.programs),
                missing_vectors: programs::missing(&installed.programs),
                programs: installed.programs.clone(),
                armed: installed.maps.config().is_ok_and(|config| config.armed),
                lost: installed.maps.lost(),
            },
        }
    }

    /// Labels the process behind `pidfd`.
    pub(crate) fn protect(
        &self,
        peer: &Peer,
        unit: &str,
        mode: Mode,
        allow_degraded: bool,
        pidfd: Option<OwnedFd>,
    ) -> Result<(), Refusal> {
        if !is_unit_name(unit) {
            return Err(Refusal::UnitName(unit.to_owned()));
        }
        let pidfd = pidfd.ok_or(Refusal::NoPidfd)?;
        match &mut *self.locked() {
            Enforcement::Degraded { observer, .. } if allow_degraded => {
                let pid = pid_of(&pidfd)?;
                if let Some((observer, pid)) = observer.as_mut().zip(pid.as_raw().try_into().ok()) {
                    observer.watch(pid, unit);
                }
                Ok(())
            }
            Enforcement::Degraded { why, .. } => Err(Refusal::Degraded(why.clone())),
            Enforcement::Active { installed, .. } => label(installed, peer, unit, mode, &pidfd),
        }
    }

    /// Denies the machine-wide vectors from now on.
    pub(crate) fn arm(&self) -> Result<(), Refusal> {
        match &mut *self.locked() {
            Enforcement::Degraded { why, .. } => Err(Refusal::Degraded(why.clone())),
            Enforcement::Active { installed, .. } => {
                let mut config = installed.maps.config()?;
                if config.armed {
                    return Ok(());
                }
                config.armed = true;
                installed.maps.set_config(&config)?;
                Ok(installed.maps.begin_anew()?)
            }
        }
    }

    /// Whether this caller has the agent's label.
    pub(crate) fn is_agent(&self, peer: &Peer) -> bool {
        match &*self.locked() {
            Enforcement::Active { installed, .. } => is_agent(&installed.maps, peer),
            Enforcement::Degraded { .. } => false,
        }
    }

    /// The rings, for the one thread that reads them.
    pub(crate) fn rings(&self) -> Option<Rings> {
        match &mut *self.locked() {
            Enforcement::Active { pins, .. } => Rings::open(pins)
                .inspect_err(|error| eprintln!("<3>rempart-guard: no events: {error}"))
                .ok(),
            Enforcement::Degraded { observer, .. } => {
                let observe = observer.as_mut()?.ring()?;
                Some(Rings { deny: None, observe })
            }
        }
    }

    /// Name of a unit.
    pub(crate) fn unit_name(&self, id: u64) -> String {
        match &*self.locked() {
            Enforcement::Active { installed, .. } => installed.maps.unit_name(id),
            Enforcement::Degraded { observer, .. } => observer
                .as_ref()
                .map(|observer| observer.unit_name(id))
                .unwrap_or_default(),
        }
    }

    /// Events that found no room.
    pub(crate) fn lost(&self) -> u64 {
        match &*self.locked() {
            Enforcement::Active { installed, .. } => installed.maps.lost(),
            Enforcement::Degraded { observer, .. } => observer.as_ref().map_or(0, |observer| observer.lost()),
        }
    }
}

fn label(installed: &mut Installed, peer: &Peer, unit: &str, mode: Mode, pidfd: &OwnedFd) -> Result<(), Refusal> {
    let pid = pid_of(pidfd)?;
    let refused = |error: std::io::Error| Refusal::Label(error.to_string());
    let maps = &mut installed.maps;
    let present = raw::label(maps.labels_fd(), pidfd.as_fd()).map_err(refused)?;
    let armed = maps.config()?.armed;
    let flags = match unit {
        EXE_GUARD_UNIT => return Err(Refusal::Reserved(unit.to_owned())),
        // Known from its exec already; before arming it may register where the programs do not know its executable.
        EXE_AGENT_UNIT if present.is_some_and(|label| label.is_agent()) => return Ok(()),
        EXE_AGENT_UNIT if armed => return Err(Refusal::NotTheAgent),
        EXE_AGENT_UNIT if maps.knows_the_agent() => return Err(Refusal::AgentIsKnown),
        EXE_AGENT_UNIT => Flags::Agent,
        _ => Flags::None,
    };
    if armed && !is_agent(maps, peer) {
        return Err(Refusal::NotTheAgent);
    }
    // Before the name gets an id: a refused request must not use up room.
    if let Some(present) = present.filter(|label| Some(label.unit) != maps.known(unit)) {
        return Err(Refusal::OtherUnit(maps.unit_name(present.unit)));
    }
    let wanted = maps.unit(unit)?;
    let mode = match mode {
        Mode::Enforce => LabelMode::Enforce,
        Mode::Observe => LabelMode::Observe,
        Mode::Kill => LabelMode::Kill,
    };
    let mode = present
        .and_then(|label| label.mode)
        .map_or(mode, |m| m.or_stricter(mode));
    raw::set_label(maps.labels_fd(), pidfd.as_fd(), &Label::new(wanted, mode, flags)).map_err(refused)?;
    let outcome = sync(maps, pid, pidfd, wanted);
    if outcome.is_err() && present.is_none() {
        // Refused is as if nothing had been asked. It may have ended meanwhile.
        let _ = raw::clear_label(maps.labels_fd(), pidfd.as_fd());
    }
    outcome
}

/// Has the programs bring the label of this process into their own tables.
fn sync(maps: &Maps, pid: nix::unistd::Pid, pidfd: &OwnedFd, wanted: u64) -> Result<(), Refusal> {
    // Any process with that number: the programs copy only a label that its own task storage has.
    nix::unistd::getpgid(Some(pid)).map_err(|error| match error {
        nix::errno::Errno::EPERM => Refusal::Traced,
        nix::errno::Errno::ENOSPC => Refusal::Full,
        other => Refusal::Label(other.to_string()),
    })?;
    match raw::label(maps.labels_fd(), pidfd.as_fd()) {
        Ok(Some(label)) if label.unit == wanted => Ok(()),
        Ok(_) => Err(Refusal::Label("the process ended meanwhile".into())),
        Err(error) => Err(Refusal::Label(error.to_string())),
    }
}

fn is_agent(maps: &Maps, peer: &Peer) -> bool {
    let Some(pidfd) = &peer.pidfd else { return false };
    matches!(raw::label(maps.labels_fd(), pidfd.as_fd()), Ok(Some(label)) if label.is_agent())
}

/// The process id behind a pidfd, from its fdinfo; refuses PID 1, dead processes and single threads.
fn pid_of(pidfd: &OwnedFd) -> Result<nix::unistd::Pid, Refusal> {
    // pidfd_open(2): readable once the process has ended; until it is reaped it still has its number.
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut ended, PollTimeout::ZERO).map_err(|error| Refusal::BadPidfd(error.to_string()))?;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(path).map_err(|error| Refusal::BadPidfd(error.to_string()))?;
    let pid = parse_fdinfo(&text)?;
    if ready > 0 {
        return Err(Refusal::BadPidfd("the process has ended".into()));
    }
    Ok(nix::unistd::Pid::from_raw(pid))
}

/// PIDFD_THREAD is O_EXCL in the descriptor's flags.
const PIDFD_THREAD: u32 = 0o200;

fn parse_fdinfo(text: &str) -> Result<i32, Refusal> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = field("flags:")
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .unwrap_or_default();
    match field("Pid:").and_then(|text| text.parse::<i32>().ok()) {
        None => Err(Refusal::BadPidfd("its fdinfo names no pid".into())),
        Some(pid) if pid <= 0 => Err(Refusal::BadPidfd("the process is gone".into())),
        Some(1) => Err(Refusal::BadPidfd("PID 1 belongs to no unit".into())),
        Some(_) if flags & PIDFD_THREAD != 0 => Err(Refusal::BadPidfd("it names a thread".into())),
        Some(pid) => Ok(pid),
    }
}

/// systemd.unit(5): up to 255 of these characters, and a type.
fn is_unit_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let (stem, kind) = name.rsplit_once('.').unwrap_or_default();
    name.len() < UNIT_NAME_LEN && !stem.is_empty() && name.chars().all(allowed) && matches!(kind, "service" | "scope")
}

/// The wire form of an outcome.
pub(crate) fn outcome(result: Result<(), Refusal>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done {
            v: PROTOCOL_VERSION,
            ok: true,
        },
        Err(refusal) => Outcome::Refused {
            v: PROTOCOL_VERSION,
            refused: refusal.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degraded() -> Warden {
        Warden::new(Enforcement::Degraded {
            why: "no-bpf-lsm: x".into(),
            observer: None,
        })
    }

    fn own_pidfd() -> Option<OwnedFd> {
        raw::pidfd_open(std::process::id()).ok()
    }

    #[test]
    fn degraded_protection_is_refused_unless_asked_for_by_name() {
        let (warden, peer) = (degraded(), Peer { pidfd: None });
        let plain = warden.protect(&peer, "x.service", Mode::Enforce, false, own_pidfd());
        assert!(matches!(plain, Err(Refusal::Degraded(_))));
        assert!(
            warden
                .protect(&peer, "x.service", Mode::Enforce, true, own_pidfd())
                .is_ok()
        );
        assert!(matches!(warden.arm(), Err(Refusal::Degraded(_))));
        let status = warden.status();
        assert!(!status.enforcing && status.why.is_some_and(|why| why.starts_with("no-bpf-lsm")));
    }

    #[test]
    fn a_request_without_a_task_or_a_unit_is_refused() {
        let (warden, peer) = (degraded(), Peer { pidfd: None });
        assert!(matches!(
            warden.protect(&peer, "x.service", Mode::Enforce, true, None),
            Err(Refusal::NoPidfd)
        ));
        for name in ["", "x", ".service", "a/b.service", "x.socket", "x.service\n"] {
            let answer = warden.protect(&peer, name, Mode::Enforce, true, own_pidfd());
            assert!(matches!(answer, Err(Refusal::UnitName(_))), "{name:?}");
        }
    }

    #[test]
    fn a_thread_pid_1_or_the_dead_cannot_be_labelled() {
        assert!(parse_fdinfo("pos:\t0\nflags:\t02000002\nPid:\t42\n").is_ok_and(|pid| pid == 42));
        assert!(parse_fdinfo("flags:\t02000202\nPid:\t42\n").is_err());
        assert!(parse_fdinfo("flags:\t02000002\nPid:\t-1\n").is_err());
        assert!(parse_fdinfo("flags:\t02000002\nPid:\t1\n").is_err());
        assert!(parse_fdinfo("flags:\t02000002\n").is_err());
    }
}
