//! Who asks: the kernel gives a pidfd of the peer (SO_PEERPIDFD, Linux 6.5), systemd gives the unit of that process.
//!
//! A pid in text names whoever has the number now; the pidfd names the peer and nobody else, so every answer about the
//! number is followed by a look whether the pidfd still has it.
//!
//! Two may ask. The wrapper is the process of an `ExecStart=` itself. For `LoadCredential=` systemd asks, as root, from a child of the process that
//! it forked for a command, before that one executes anything: `(sd-mkdcreds)`, seen with systemd 252 and 257. Its parent the agent may not see
//! (ProtectProc=), but its session: systemd has each command lead one of its own, nobody can enter one (setsid(2)), and its number is not given
//! away while somebody is in it. So whoever is in the session of a command descends from the process that systemd forked for it.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::{
    sys::socket::{UnixAddr, getpeername, getsockopt, sockopt::PeerCredentials, sockopt::PeerPidfd},
    unistd::{Pid, getsid},
};
use rempart_api::job::is_service;
use tokio::net::UnixStream;
use zbus::{Connection, zvariant::OwnedObjectPath};

use super::{Refusal, units::Files};
use crate::systemd::manager::{self, Exec, ManagerProxy, Properties};

/// What a systemd before 253 answers to GetUnitByPIDFD: it does not know it, and the bus's policy for it (org.freedesktop.systemd1.conf), which lists
/// what others may call, lets nobody but root ask.
const NO_PIDFDS: [&str; 2] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.AccessDenied",
];

/// The process at the other end.
pub struct Peer {
    /// Names it and nobody else.
    pub pidfd: OwnedFd,
    /// Its number while it lives.
    pub pid: u32,
    /// Its user when it connected.
    pub uid: u32,
}

/// Who of a unit asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Wrapper,
    Systemd,
}

/// The unit that the peer was started for.
pub struct Caller {
    /// Full name.
    pub unit: String,
    /// This start of it, 32 hexadecimal digits.
    pub invocation: String,
    /// Which of its `ExecStart=` commands the peer is, from 0; 0 when it is none of them.
    pub command: usize,
    /// How it is defined.
    pub files: Files,
}

impl Peer {
    /// The process that connected `stream`.
    pub fn of(stream: &UnixStream) -> Result<Self, Refusal> {
        let pidfd = getsockopt(stream, PeerPidfd).map_err(|error| match error {
            nix::Error::ESRCH | nix::Error::EINVAL => Refusal::CallerGone,
            other => Refusal::KernelCannotTell(other.into()),
        })?;
        let pid = number(&pidfd).ok_or(Refusal::CallerGone)?;
        let known = getsockopt(stream, PeerCredentials).map_err(|error| Refusal::KernelCannotTell(error.into()))?;
        Ok(Self {
            pidfd,
            pid,
            uid: known.uid(),
        })
    }

    fn still_there(&self) -> Result<(), Refusal> {
        if number(&self.pidfd) == Some(self.pid) {
            Ok(())
        } else {
            Err(Refusal::CallerGone)
        }
    }

    /// The peer's unit, when systemd itself started the peer for it, through `wrap`.
    ///
    /// MainPID and ControlPID alone do not prove that: root can set the one by sd_notify(3), and the other is the process
    /// of `ExecStartPre=`, `ExecReload=` and the like too. The pid and time that systemd notes with each command when it
    /// forks for it (property `ExecStart`) nobody else can set.
    pub async fn caller(&self, bus: &Connection, wrap: &Path) -> Result<Caller, Refusal> {
        self.of_unit(bus, wrap, Asker::Wrapper).await
    }

    /// The peer's unit, when the peer is systemd's own process that loads credentials for a command of it.
    pub async fn loader(&self, bus: &Connection, wrap: &Path) -> Result<Caller, Refusal> {
        self.is_root()?;
        self.of_unit(bus, wrap, Asker::Systemd).await
    }

    fn is_root(&self) -> Result<(), Refusal> {
        match self.uid {
            0 => Ok(()),
            uid => Err(Refusal::LoaderNotRoot { pid: self.pid, uid }),
        }
    }

    async fn of_unit(&self, bus: &Connection, wrap: &Path, asker: Asker) -> Result<Caller, Refusal> {
        let no_unit = |error: zbus::Error| Refusal::CallerNoUnit {
            pid: self.pid,
            why: error.to_string(),
        };
        // Before and after systemd is asked: while the peer is in it, its number is nobody else's.
        let session = self.session()?;
        let (path, invocation) = self.unit_path(bus).await?;
        let (unit, service) = manager::properties(bus, path).await.map_err(no_unit)?;
        let name: String = manager::property(&unit, "Id").map_err(no_unit)?;
        if !is_service(&name) {
            return Err(Refusal::CallerNoUnit {
                pid: self.pid,
                why: format!("its unit is {name}"),
            });
        }
        let commands: Vec<Exec> = manager::property(&service, "ExecStart").map_err(no_unit)?;
        let wrapped = !commands.is_empty() && commands.iter().all(|command| Path::new(&command.0) == wrap);
        if !wrapped || (asker == Asker::Wrapper && self.program(wrap) == Program::Other) {
            return Err(Refusal::CallerNotWrapper {
                pid: self.pid,
                unit: name,
                wrap: wrap.display().to_string(),
            });
        }
        let now = Now::of(&service).map_err(no_unit)?;
        let started = |commands: &[Exec], pid| commands.iter().position(|command| now.runs_as(command, pid));
        let command = match asker {
            Asker::Wrapper => started(&commands, self.pid).ok_or_else(|| Refusal::CallerNotStarted {
                pid: self.pid,
                unit: name.clone(),
            })?,
            Asker::Systemd => {
                let mut all = commands;
                for list in ["ExecStartPre", "ExecStartPost"] {
                    all.extend(manager::property::<Vec<Exec>>(&service, list).map_err(no_unit)?);
                }
                let loads = started(&all, session).is_some() && self.session()? == session;
                loads.then_some(0).ok_or_else(|| Refusal::LoaderNotStarted {
                    pid: self.pid,
                    unit: name.clone(),
                })?
            }
        };
        let started: Vec<u8> = manager::property(&unit, "InvocationID").map_err(no_unit)?;
        let caller = Caller {
            unit: name,
            invocation: hex::encode(&started),
            command,
            files: Files::of(&unit, &service).map_err(no_unit)?,
        };
        self.still_there()?;
        if started.len() != 16 || invocation.is_some_and(|asked| asked != started) {
            return Err(Refusal::CallerGone);
        }
        Ok(caller)
    }

    /// The number of the session that it is in; 0 for one outside of what the agent sees.
    fn session(&self) -> Result<u32, Refusal> {
        let pid = i32::try_from(self.pid).map_err(|_| Refusal::CallerGone)?;
        let session = getsid(Some(Pid::from_raw(pid))).map_err(|_| Refusal::CallerGone)?;
        self.still_there()?;
        u32::try_from(session.as_raw()).map_err(|_| Refusal::CallerGone)
    }

    /// The unit's object, with its invocation id where systemd gives both at once (253).
    async fn unit_path(&self, bus: &Connection) -> Result<(OwnedObjectPath, Option<Vec<u8>>), Refusal> {
        let no_unit = |error: zbus::Error| Refusal::CallerNoUnit {
            pid: self.pid,
            why: error.to_string(),
        };
        let manager = ManagerProxy::new(bus).await.map_err(no_unit)?;
        match manager.unit_by_pidfd(self.pidfd.as_fd().into()).await {
            Ok((path, _, invocation)) => Ok((path, Some(invocation))),
            Err(zbus::Error::MethodError(name, _, _)) if NO_PIDFDS.contains(&name.as_str()) => {
                let path = manager.unit_by_pid(self.pid).await.map_err(no_unit)?;
                self.still_there()?;
                Ok((path, None))
            }
            Err(error) => Err(no_unit(error)),
        }
    }

    /// Which program the peer runs, as far as the kernel lets us see: for a process of another user it takes
    /// CAP_SYS_PTRACE, which the agent must not have (with ProtectProc= the whole folder is hidden). Then what systemd
    /// says it started, which was judged before, has to do.
    fn program(&self, wrap: &Path) -> Program {
        let seen = std::fs::metadata(format!("/proc/{}/exe", self.pid));
        match (seen, std::fs::metadata(wrap)) {
            (Ok(seen), Ok(wrap)) if (seen.dev(), seen.ino()) == (wrap.dev(), wrap.ino()) => Program::Wrapper,
            (Err(_), Ok(_)) => Program::Hidden,
            _ => Program::Other,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Program {
    Wrapper,
    Other,
    Hidden,
}

/// Unit and credential that the peer's own address names: systemd binds it to `\0RANDOM/unit/UNIT/NAME` (systemd.exec(5), LoadCredential=). Anybody
/// could: it is a claim.
pub fn claimed(stream: &UnixStream) -> Option<(String, String)> {
    let address = getpeername::<UnixAddr>(stream.as_raw_fd()).ok()?;
    let text = std::str::from_utf8(address.as_abstract()?).ok()?;
    match text.split('/').collect::<Vec<_>>()[..] {
        [random, "unit", unit, name] if !random.is_empty() => Some((unit.to_owned(), name.to_owned())),
        _ => None,
    }
}

/// The pid behind a pidfd; `None` once it has ended (pidfd_open(2), fdinfo).
fn number(pidfd: &OwnedFd) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

/// What systemd takes for the unit's processes now.
struct Now {
    main: u32,
    control: u32,
    /// When it took `main` for the main process, in microseconds.
    since: u64,
}

impl Now {
    /// Longest time, in microseconds, between systemd noting the start of a command and of the main process. It is 0
    /// since systemd hands one time to both (257), and before that the time between two statements: 1 ms was seen to be
    /// exceeded on a busy machine. In it a process would have to be ended, its number taken, and systemd told twice.
    const GAP: u64 = 10_000;

    fn of(service: &Properties) -> zbus::Result<Self> {
        Ok(Self {
            main: manager::property(service, "MainPID")?,
            control: manager::property(service, "ControlPID")?,
            since: manager::property(service, "ExecMainStartTimestampMonotonic")?,
        })
    }

    /// Whether systemd started `pid` for this command and watches it since. Fields 3 and 4 are the start by two clocks,
    /// 5 and 6 the end. A main process set by sd_notify(3) has another start, even when its number is that of the command:
    /// who may choose pids could have ended the true one unwatched.
    fn runs_as(&self, command: &Exec, pid: u32) -> bool {
        let watched = (self.main == pid && command.4.abs_diff(self.since) <= Self::GAP) || self.control == pid;
        pid != 0 && command.7 == pid && command.4 != 0 && command.5 == 0 && command.6 == 0 && watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_peer_of_a_pair_is_this_process_and_its_program_is_this_test() {
        let (one, _other) = UnixStream::pair().expect("pair");
        let peer = Peer::of(&one).expect("SO_PEERPIDFD");
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        let own = getsid(None).expect("a session").as_raw();
        assert_eq!(i64::from(peer.session().expect("alive")), i64::from(own));
        peer.still_there().expect("alive");
        let own = std::env::current_exe().expect("own path");
        assert_eq!(peer.program(&own), Program::Wrapper);
        assert_eq!(peer.program(Path::new("/bin/true")), Program::Other);
        assert_eq!(peer.program(Path::new("/nonexistent")), Program::Other);
    }

    #[tokio::test]
    async fn nobody_but_root_asks_for_credentials_whatever_its_unit() {
        let (one, _other) = UnixStream::pair().expect("pair");
        let mut peer = Peer::of(&one).expect("SO_PEERPIDFD");
        peer.uid = 0;
        peer.is_root().expect("root");
        peer.uid = 65534;
        let refused = peer.is_root().expect_err("nobody").to_string();
        assert!(refused.contains("user 65534"), "{refused}");
    }

    #[tokio::test]
    async fn the_address_of_a_peer_is_read_as_systemd_writes_it_and_in_no_other_form() {
        use std::os::{linux::net::SocketAddrExt, unix::net};
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).expect("listens");
        let unique = std::process::id();
        for (name, wanted) in [
            (format!("{unique:x}/unit/web.service/KEY"), Some(("web.service", "KEY"))),
            (format!("{unique:x}/unit/web.service"), None),
            (format!("{unique:x}/unit/web.service/a/b"), None),
            (format!("{unique:x}/generator/web.service/KEY"), None),
            (format!("/unit/web.service/KEY{unique:x}"), None),
        ] {
            let own = net::SocketAddr::from_abstract_name(&name).expect("short");
            let socket = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Unix,
                nix::sys::socket::SockType::Stream,
                nix::sys::socket::SockFlag::empty(),
                None,
            )
            .expect("a socket");
            let bound = UnixAddr::new_abstract(own.as_abstract_name().expect("abstract")).expect("short");
            nix::sys::socket::bind(socket.as_raw_fd(), &bound).expect("bound");
            nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(&path).expect("short")).expect("connected");
            let (peer, _) = listener.accept().await.expect("a peer");
            let claim = claimed(&peer);
            let claim = claim.as_ref().map(|(unit, name)| (unit.as_str(), name.as_str()));
            assert_eq!(claim, wanted, "{name}");
        }
        let _unbound = std::os::unix::net::UnixStream::connect(&path).expect("connected");
        assert_eq!(claimed(&listener.accept().await.expect("a peer").0), None);
    }

    #[test]
    fn only_the_process_that_systemd_started_and_watches_since_runs_the_command() {
        let exec = |started, ended: u64, pid| (String::new(), Vec::new(), false, 1, started, ended, ended, pid, 0, 0);
        let now = |main, control, since| Now { main, control, since };
        assert!(now(7, 0, 5000).runs_as(&exec(5000, 0, 7), 7));
        assert!(now(0, 7, 0).runs_as(&exec(5000, 0, 7), 7), "Type=forking");
        assert!(!now(7, 0, 5000).runs_as(&exec(5000, 0, 8), 7), "MAINPID= of another");
        assert!(
            !now(7, 0, 19_000).runs_as(&exec(5000, 0, 7), 7),
            "MAINPID= of the same number later"
        );
        assert!(
            !now(0, 7, 0).runs_as(&exec(5000, 0, 8), 7),
            "ExecStartPre=, ExecReload="
        );
        assert!(!now(7, 0, 5000).runs_as(&exec(5000, 9000, 7), 7), "ended");
        assert!(!now(7, 0, 0).runs_as(&exec(0, 0, 7), 7), "forgotten by a reload");
        assert!(!now(0, 0, 5000).runs_as(&exec(5000, 0, 0), 0));
    }

    #[test]
    fn a_name_that_could_climb_out_of_its_folder_is_no_unit() {
        assert!(is_service("billing@eu-1.service"));
        for name in ["../x.service", ".service", "a/b.service", "a.socket", "", "a b.service"] {
            assert!(!is_service(name), "{name}");
        }
    }
}
