//! Who may ask what, and the answers. The caller is judged by the kernel's word: its uid, and once armed
//! by the label of its own process.

use crate::{
    breakglass::{self, Here, TokenError},
    enforcement::Enforcement,
    foreign,
    install::{self, Installed},
    leak::{LeakError, Prints},
    maps::{Maps, MapsError, Rings, UNIT_NAME_LEN, units_of},
    options::Options,
    programs, raw, seal,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rempart_api::{
    PROTOCOL_VERSION,
    guard::{Arming, Loader, LoaderError, Mode, Outcome, Program, Status},
};
use rempart_bpf_common::{Config, EXE_AGENT_UNIT, EXE_GUARD_UNIT, Flags, Label, Lift, Mode as LabelMode, Vector};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard},
    time::SystemTime,
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
    /// The owner's token is at work.
    #[error(
        "not protected: a break-glass token has lifted the protection of {0}; restart the unit when `rempart break-glass end` has been called, or after the next boot if it was `machine`"
    )]
    Lifted(&'static str),
    /// Another digest was told first.
    #[error(
        "{0} differs from what it was when this boot was armed; undo the change, have the owner sign a break-glass token, or reboot"
    )]
    Differs(String),
    /// A name that came too late.
    #[error("{0} was not there when this boot was armed; have the owner sign a break-glass token, or reboot")]
    TooLate(String),
    /// Not 32 bytes.
    #[error("refused: the digest of {0} is not 64 hexadecimal digits")]
    BadDigest(String),
    /// A list of foreign BPF programs is none.
    #[error("not armed: {0}; mend guard.foreign_bpf in the agent's configuration")]
    Foreign(#[from] LoaderError),
    /// The kernel does not say where the TPM is.
    #[error("not armed: /proc/devices cannot be read ({0}), so the TPM's devices are not known; mount procfs")]
    Devices(std::io::Error),
    /// The token does not count.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nothing to end.
    #[error("refused: no break-glass token lifts anything now")]
    NothingLifted,
    /// No file with fingerprints came along.
    #[error("not watched: the request carried no descriptor; send the file of fingerprints by SCM_RIGHTS with it")]
    NoPrints,
    /// Fingerprints are not taken.
    #[error(transparent)]
    Leak(#[from] LeakError),
    /// The maps failed.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// The fingerprints of a request, read before anything is locked.
pub(crate) fn prints(file: Option<OwnedFd>, count: u32, wide: bool, step: u32) -> Result<Prints, Refusal> {
    Ok(Prints::read(file.ok_or(Refusal::NoPrints)?, count, wide, step)?)
}

/// A connected caller.
pub(crate) struct Peer {
    /// Its process.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// The guard's state, shared by all connections.
pub(crate) struct Warden {
    enforcement: Mutex<Enforcement>,
    options: Options,
}

impl Warden {
    pub(crate) fn new(enforcement: Enforcement, options: Options) -> Self {
        Warden {
            enforcement: Mutex::new(enforcement),
            options,
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
            Enforcement::Active { installed, .. } => self.active_status(installed),
        }
    }

    fn active_status(&self, installed: &Installed) -> Status {
        let config = installed.maps.config().unwrap_or(Config::EMPTY);
        let lifted = lifted(&config);
        let machine = config.was_lifted & Lift::Machine as u32 != 0;
        Status {
            v: PROTOCOL_VERSION,
            enforcing: !machine,
            observing: false,
            why: match machine {
                true => Some(BROKEN_GLASS.to_owned()),
                false => programs::hooks_missing(&installed.programs),
            },
            missing_vectors: programs::missing(if machine { &[] } else { &installed.programs }),
            programs: installed.programs.clone(),
            armed: config.armed,
            lost: installed.maps.lost(),
            sealed: installed.maps.sealed(),
            files_observed: config.files_observed,
            tpm_exclusive: config.tpm_exclusive,
            foreign_bpf: foreign::loaders(&installed.maps),
            lifted: breakglass::words(lifted),
            lifted_for_s: config
                .lifted_until
                .saturating_sub(boottime_ns())
                .div_ceil(1_000_000_000),
            was_lifted: breakglass::words(config.was_lifted),
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

    /// Compares the unit's output with `prints`; lifts what there was when there are none.
    pub(crate) fn watch(&self, peer: &Peer, unit: &str, mode: Mode, prints: Option<Prints>) -> Result<(), Refusal> {
        if !is_unit_name(unit) {
            return Err(Refusal::UnitName(unit.to_owned()));
        }
        let mut enforcement = self.locked();
        let installed = enforcement.installed()?;
        if installed.maps.config()?.armed && !is_agent(&installed.maps, peer) {
            return Err(Refusal::NotTheAgent);
        }
        let id = installed.maps.unit(unit)?;
        let Some(prints) = prints else {
            return Ok(installed.maps.watch.lift(id)?);
        };
        let missing = |program: &&Program| program.name.starts_with("leak_") && !program.attached;
        match installed.programs.iter().find(missing) {
            Some(program) if mode != Mode::Observe => Err(LeakError::Program(program.name.clone()).into()),
            _ => Ok(installed.maps.watch.put(id, of_label(mode), &prints)?),
        }
    }

    /// Lifts the fingerprints of units that have ended.
    pub(crate) fn lift_ended(&self) {
        let Enforcement::Active { installed, .. } = &mut *self.locked() else {
            return;
        };
        let Maps { watch, leaders, .. } = &mut installed.maps;
        if let Err(error) = watch.lift_ended(|| units_of(leaders)) {
            eprintln!("<4>rempart-guard: fingerprints of units that have ended are still there: {error}");
        }
    }

    /// Denies the machine-wide vectors from now on. Whoever comes first may be root, who is in a hurry to have it done loosely: so the
    /// agent may make it stricter later; and looser, as any change of its configuration, while a token has lifted the files.
    pub(crate) fn arm(&self, peer: &Peer, wanted: &Arming) -> Result<(), Refusal> {
        let mut enforcement = self.locked();
        let installed = enforcement.installed()?;
        let maps = &mut installed.maps;
        let before = maps.config()?;
        if before.armed && !is_agent(maps, peer) {
            return Err(Refusal::NotTheAgent);
        }
        Loader::check(&wanted.foreign_bpf)?;
        let tpm_major = seal::tpm_major().map_err(Refusal::Devices)?;
        let closed = before.armed && !lifts(&before, Lift::Files);
        maps.set_fact(&node_fact(&wanted.node), [1; 32])?;
        if foreign::list(maps, &wanted.foreign_bpf, closed)? {
            installed.held.extend(seal::learn_loaders(maps)?);
        }
        maps.set_config(&Config {
            armed: true,
            files_observed: wanted.files == Mode::Observe && (!closed || before.files_observed),
            tpm_exclusive: wanted.tpm_exclusive || (closed && before.tpm_exclusive),
            tpm_major,
            ..before
        })?;
        match before.armed {
            true => Ok(()),
            false => Ok(maps.begin_anew()?),
        }
    }

    /// Whether this caller has the agent's label.
    pub(crate) fn is_agent(&self, peer: &Peer) -> bool {
        match &*self.locked() {
            Enforcement::Active { installed, .. } => is_agent(&installed.maps, peer),
            Enforcement::Degraded { .. } => false,
        }
    }

    /// Notes a digest, or compares it with the first of its name in this boot.
    pub(crate) fn remember(&self, peer: &Peer, name: &str, digest: &str) -> Result<(), Refusal> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digest, &mut bytes).map_err(|_| Refusal::BadDigest(shown(name)))?;
        let mut enforcement = self.locked();
        let maps = &mut enforcement.installed()?.maps;
        if !is_agent(maps, peer) {
            return Err(Refusal::NotTheAgent);
        }
        let config = maps.config()?;
        let open = !config.armed || lifts(&config, Lift::Files);
        let fact = format!("fact:{name}");
        match maps.fact(&fact)? {
            Some(known) if known == bytes => Ok(()),
            Some(_) if !open => Err(Refusal::Differs(shown(name))),
            None if !open => Err(Refusal::TooLate(shown(name))),
            _ => Ok(maps.set_fact(&fact, bytes)?),
        }
    }

    /// Lifts what the owner's token says. Logged first: in the journal, and in the ring before what it makes possible.
    pub(crate) fn break_glass(&self, text: &str, signature: &str) -> Result<(), Refusal> {
        let mut enforcement = self.locked();
        let maps = &mut enforcement.installed()?.maps;
        let path = self.options.break_glass_keys.display().to_string();
        let keys = breakglass::keys(&fs::read_to_string(&self.options.break_glass_keys).unwrap_or_default());
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let here = Here {
            keys: &keys,
            path: &path,
            is_node: &|name| matches!(maps.fact(&node_fact(name)), Ok(Some(_))),
            boot_id: boot_id.trim(),
            now: SystemTime::now(),
        };
        let accepted = breakglass::judge(text, signature, &here)?;
        let used = format!("token:{}", accepted.identity());
        if maps.fact(&used)?.is_some() {
            return Err(TokenError::Used.into());
        }
        maps.set_fact(&used, [1; 32])?;
        eprintln!("<1>rempart-guard: BREAK-GLASS: {accepted}");
        let mut config = announce(maps)?;
        let bits = breakglass::bits(&accepted.token.lift);
        config.lifted = lifted(&config) | bits;
        config.was_lifted |= bits;
        let duration = u64::try_from(accepted.duration().as_nanos()).unwrap_or(u64::MAX);
        config.lifted_until = boottime_ns().saturating_add(duration);
        Ok(maps.set_config(&config)?)
    }

    /// Ends what a token has lifted.
    pub(crate) fn restore(&self) -> Result<(), Refusal> {
        let mut enforcement = self.locked();
        let installed = enforcement.installed()?;
        match installed.maps.config()? {
            config if config.lifted == 0 => Err(Refusal::NothingLifted),
            config => Ok(self.end(installed, config)?),
        }
    }

    /// Called each second or so: while files are lifted what is on the disk is learnt, and at the end for the last time.
    pub(crate) fn tick(&self) {
        let Enforcement::Active { installed, .. } = &mut *self.locked() else {
            return;
        };
        let done = installed.maps.config().and_then(|config| match config.lifted {
            0 => Ok(()),
            _ if lifted(&config) == 0 => self.end(installed, config),
            _ if lifts(&config, Lift::Files) => self.learn(installed),
            _ => Ok(()),
        });
        if let Err(error) = done {
            eprintln!("<3>rempart-guard: the seals of lifted files: {error}");
        }
    }

    fn learn(&self, installed: &mut Installed) -> Result<(), MapsError> {
        installed.held = seal::learn(&mut installed.maps, &self.options)?;
        Ok(())
    }

    fn end(&self, installed: &mut Installed, config: Config) -> Result<(), MapsError> {
        if config.lifted & Lift::Files as u32 != 0 {
            self.learn(installed)?;
        }
        eprintln!("<1>rempart-guard: BREAK-GLASS: ended");
        let mut config = announce(&mut installed.maps)?;
        (config.lifted, config.lifted_until) = (0, 0);
        installed.maps.set_config(&config)
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

/// Why nothing counts as enforced after the owner has lifted it.
pub(crate) const BROKEN_GLASS: &str =
    "break-glass: the machine's protection was lifted by the owner's token in this boot; reboot";
/// Where the kernel names this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
fn node_fact(name: &str) -> String {
    format!("node:{name}")
}

fn shown(name: &str) -> String {
    name.escape_default().to_string()
}

fn boottime_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Bits of what a token lifts now.
fn lifted(config: &Config) -> u32 {
    if boottime_ns() < config.lifted_until {
        config.lifted
    } else {
        0
    }
}

fn lifts(config: &Config, what: Lift) -> bool {
    lifted(config) & what as u32 != 0
}

/// Has the programs record that break-glass begins or ends; returns the configuration as it is then.
fn announce(maps: &mut Maps) -> Result<Config, MapsError> {
    let mut config = maps.config()?;
    config.announce = Vector::BreakGlass as u32;
    maps.set_config(&config)?;
    // The record is all that comes of it.
    let _ = install::sync_self();
    config.announce = 0;
    Ok(config)
}

fn label(installed: &mut Installed, peer: &Peer, unit: &str, mode: Mode, pidfd: &OwnedFd) -> Result<(), Refusal> {
    let pid = pid_of(pidfd)?;
    let refused = |error: std::io::Error| Refusal::Label(error.to_string());
    let maps = &mut installed.maps;
    let present = raw::label(maps.labels_fd(), pidfd.as_fd()).map_err(refused)?;
    let config = maps.config()?;
    let flags = match unit {
        EXE_GUARD_UNIT => return Err(Refusal::Reserved(unit.to_owned())),
        // Known from its exec already; before arming it may register where the programs do not know its executable.
        EXE_AGENT_UNIT if present.is_some_and(|label| label.is_agent()) => return Ok(()),
        EXE_AGENT_UNIT if config.armed => return Err(Refusal::NotTheAgent),
        EXE_AGENT_UNIT if maps.knows_the_agent() => return Err(Refusal::AgentIsKnown),
        EXE_AGENT_UNIT => Flags::Agent,
        _ => Flags::None,
    };
    if config.armed && !is_agent(maps, peer) {
        return Err(Refusal::NotTheAgent);
    }
    if config.was_lifted & Lift::Machine as u32 != 0 {
        return Err(Refusal::Lifted("the machine"));
    }
    if lifted(&config) != 0 && unit != EXE_AGENT_UNIT {
        return Err(Refusal::Lifted("Rempart's files"));
    }
    // Before the name gets an id: a refused request must not use up room.
    if let Some(present) = present.filter(|label| Some(label.unit) != maps.known(unit)) {
        return Err(Refusal::OtherUnit(maps.unit_name(present.unit)));
    }
    let wanted = maps.unit(unit)?;
    let mode = of_label(mode);
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

const fn of_label(mode: Mode) -> LabelMode {
    match mode {
        Mode::Enforce => LabelMode::Enforce,
        Mode::Observe => LabelMode::Observe,
        Mode::Kill => LabelMode::Kill,
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
        let why = "no-bpf-lsm: x".into();
        Warden::new(Enforcement::Degraded { why, observer: None }, Options::default())
    }

    fn own_pidfd() -> Option<OwnedFd> {
        raw::pidfd_open(std::process::id()).ok()
    }

    #[test]
    fn degraded_protection_is_refused_unless_asked_for_by_name() {
        let (warden, peer) = (degraded(), Peer { pidfd: None });
        let arming = Arming {
            node: "n".into(),
            files: Mode::Enforce,
            tpm_exclusive: true,
            foreign_bpf: Vec::new(),
        };
        let plain = warden.protect(&peer, "x.service", Mode::Enforce, false, own_pidfd());
        assert!(matches!(plain, Err(Refusal::Degraded(_))));
        assert!(
            warden
                .protect(&peer, "x.service", Mode::Enforce, true, own_pidfd())
                .is_ok()
        );
        assert!(matches!(warden.arm(&peer, &arming), Err(Refusal::Degraded(_))));
        assert!(matches!(warden.break_glass("", ""), Err(Refusal::Degraded(_))));
        assert!(matches!(
            warden.remember(&peer, "x", &"00".repeat(32)),
            Err(Refusal::Degraded(_))
        ));
        assert!(matches!(warden.remember(&peer, "x", "00"), Err(Refusal::BadDigest(_))));
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
