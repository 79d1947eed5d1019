//! The guard socket: JSON lines, a pidfd beside the line where one is needed. Only root and user rempart
//! are heard, judged by SO_PEERCRED.

use crate::{
    feed::Feed,
    raw,
    warden::{self, Peer, Warden, outcome},
};
use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sockopt},
    unistd::{Gid, Group, User, chown, geteuid},
};
use rempart_api::{
    PROTOCOL_VERSION,
    guard::{Arming, Outcome, Request},
    line::{self, LineError, MAX_LINE},
};
use std::{
    collections::VecDeque,
    fs,
    io::{self, IoSliceMut, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

/// Connections of tools, and of the agent before it is known by its label.
const MAX_CONNECTIONS: usize = 16;
/// Those of the agent, which needs two; nobody else can take them up.
const AGENT_CONNECTIONS: usize = 8;
/// A subscriber that takes nothing for so long is dropped.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A line is awaited for so long, all of it.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// A stranger's.
const STRANGER_LIMIT: Duration = Duration::from_secs(1);
/// How often it is seen whether a subscriber is still there.
const GLANCE: Duration = Duration::from_secs(1);
/// Wait after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that may lie ahead of their request.
const MAX_DESCRIPTORS: usize = 4;
/// SCM_MAX_FD of the kernel: no message has more descriptors. With room for fewer it would put some into this process and
/// nobody would learn their numbers.
const SENT_DESCRIPTORS: usize = 253;

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// No socket.
    #[error("cannot serve {path}: {error}; is its folder there and writable for this user?")]
    Bind {
        /// Where.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Binds the socket, 0660, group rempart.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ServerError> {
    let failed = |error| ServerError::Bind {
        path: path.display().to_string(),
        error,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let group = Group::from_name("rempart").ok().flatten().map(|group| group.gid);
    if let Err(error) = give(path, group) {
        eprintln!("<4>rempart-guard: group rempart cannot be given the socket ({error})");
    }
    Ok(listener)
}

fn give(path: &Path, group: Option<Gid>) -> nix::Result<()> {
    group.map_or(Ok(()), |gid| chown(path, None, Some(gid)))
}

/// Serves in threads of its own.
pub(crate) fn serve(listener: UnixListener, warden: Arc<Warden>, feed: Feed) {
    let (tools, agents) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors or memory: whoever waits goes on waiting.
                thread::sleep(PAUSE);
                continue;
            };
            let peer = admit(&stream);
            let (taken, most) = match &peer {
                Some(peer) if warden.is_agent(peer) => (&agents, AGENT_CONNECTIONS),
                _ => (&tools, MAX_CONNECTIONS),
            };
            let Some(place) = Place::take(taken, most) else {
                // A new socket has room for a line, so that nobody waits here.
                let _ = reply(
                    &stream,
                    &refused("too many connections are open; close one and ask again"),
                );
                continue;
            };
            let (warden, feed) = (Arc::clone(&warden), feed.clone());
            let started = thread::Builder::new().spawn(move || {
                let _place = place;
                converse(stream, peer.as_ref(), &warden, &feed);
            });
            if let Err(error) = started {
                eprintln!("<4>rempart-guard: no thread for a connection ({error}): it is closed");
                thread::sleep(PAUSE);
            }
        }
    });
}

/// One of a limited number of connections, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// Only the accepting thread takes places, so that none is given twice.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if taken.load(Ordering::SeqCst) >= most {
            return None;
        }
        taken.fetch_add(1, Ordering::SeqCst);
        Some(Place(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers one peer until it goes, breaks the protocol or subscribes; `None` is a stranger.
fn converse(stream: UnixStream, peer: Option<&Peer>, warden: &Warden, feed: &Feed) {
    let _ = stream.set_write_timeout(Some(WRITE_LIMIT));
    let mut inbox = Inbox::new(&stream);
    let Some(peer) = peer else {
        // Its line is taken first: closing over unread data would cost it the answer.
        let _ = inbox.line(STRANGER_LIMIT);
        let _ = reply(&stream, &refused("only root and user rempart may talk to the guard"));
        return;
    };
    loop {
        let request = match inbox.line(LINE_LIMIT) {
            Ok(bytes) => line::decode::<Request>(&bytes),
            Err(LineError::PeerClosed) => return,
            Err(error) => Err(error),
        };
        // What lies beside a line belongs to it; nothing is kept for the next.
        let mut descriptors = std::mem::take(&mut inbox.descriptors);
        let answered = match request {
            Ok(request) if version(&request) != PROTOCOL_VERSION => reply(
                &stream,
                &refused("unknown protocol version; install agent and guard of the same release"),
            ),
            Ok(Request::Status { .. }) => reply(&stream, &warden.status()),
            Ok(Request::Arm {
                node,
                files,
                tpm_exclusive,
                foreign_bpf,
                ..
            }) => {
                let wanted = Arming {
                    node,
                    files,
                    tpm_exclusive,
                    foreign_bpf,
                };
                reply(&stream, &outcome(warden.arm(peer, &wanted)))
            }
            Ok(Request::Remember { name, digest, .. }) => {
                reply(&stream, &outcome(warden.remember(peer, &name, &digest)))
            }
            Ok(Request::BreakGlass { token, signature, .. }) => {
                reply(&stream, &outcome(warden.break_glass(&token, &signature)))
            }
            Ok(Request::Restore { .. }) => reply(&stream, &outcome(warden.restore())),
            Ok(Request::Protect {
                unit,
                mode,
                allow_degraded,
                ..
            }) => {
                let pidfd = descriptors.pop_front();
                reply(
                    &stream,
                    &outcome(warden.protect(peer, &unit, mode, allow_degraded, pidfd)),
                )
            }
            Ok(Request::Fingerprints {
                unit,
                mode,
                prints,
                wide,
                step,
                ..
            }) => {
                let file = descriptors.pop_front();
                let prints = match prints {
                    0 => Ok(None),
                    _ => warden::prints(file, prints, wide, step).map(Some),
                };
                let watched = prints.and_then(|prints| warden.watch(peer, &unit, mode, prints));
                reply(&stream, &outcome(watched))
            }
            Ok(Request::Events { .. }) => return stream_events(&stream, feed),
            Err(error) => {
                let _ = reply(&stream, &refused(&error.to_string()));
                return;
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

fn version(request: &Request) -> u32 {
    match request {
        Request::Status { v }
        | Request::Protect { v, .. }
        | Request::Arm { v, .. }
        | Request::Remember { v, .. }
        | Request::BreakGlass { v, .. }
        | Request::Restore { v }
        | Request::Fingerprints { v, .. }
        | Request::Events { v } => *v,
    }
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused {
        v: PROTOCOL_VERSION,
        refused: why.into(),
    }
}

fn reply<T: serde::Serialize>(mut stream: &UnixStream, message: &T) -> Result<(), LineError> {
    Ok(stream.write_all(&line::encode(message)?)?)
}

fn stream_events(mut stream: &UnixStream, feed: &Feed) {
    let lines = feed.subscribe();
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) if stream.write_all(&line).is_ok() => {}
            // Who left must not keep its place until there is something to tell it.
            Err(RecvTimeoutError::Timeout) if !has_left(stream) => {}
            _ => return,
        }
    }
}

fn has_left(stream: &UnixStream) -> bool {
    let mut ended = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let answer = poll(&mut ended, PollTimeout::ZERO);
    answer.is_ok_and(|_| ended[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP)))
}

fn admit(stream: &UnixStream) -> Option<Peer> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    let agent = User::from_name("rempart").ok().flatten().map(|user| user.uid.as_raw());
    if peer.uid() != 0 && Some(peer.uid()) != agent && peer.uid() != geteuid().as_raw() {
        return None;
    }
    let pidfd = raw::peer_pidfd(stream).or_else(|| raw::pidfd_open(u32::try_from(peer.pid()).ok()?).ok());
    Some(Peer { pidfd })
}

/// What came in: bytes up to the next line feed, and descriptors in their order.
struct Inbox<'a> {
    stream: &'a UnixStream,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl<'a> Inbox<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Inbox {
            stream,
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// The next line, which must be here in time.
    fn line(&mut self, within: Duration) -> Result<Vec<u8>, LineError> {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.bytes, rest));
            }
            if self.bytes.len() >= MAX_LINE {
                return Err(LineError::PeerLineTooLong);
            }
            self.receive(until)?;
        }
    }

    fn receive(&mut self, until: Instant) -> Result<(), LineError> {
        let mut chunk = [0u8; 4096];
        let mut control = cmsg_space!([libc::c_int; SENT_DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(&mut chunk)];
        let count = loop {
            wait(self.stream, until)?;
            // One message at a time: several connections together must not bring more descriptors than this process may have.
            let _one = RECEIVING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            match recvmsg::<()>(self.stream.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                message => {
                    let message = message.map_err(io::Error::from)?;
                    for item in message.cmsgs().map_err(io::Error::from)? {
                        if let ControlMessageOwned::ScmRights(fds) = item {
                            self.descriptors.extend(fds.into_iter().map(raw::received));
                        }
                    }
                    self.descriptors.truncate(MAX_DESCRIPTORS);
                    break message.bytes;
                }
            }
        };
        if count == 0 {
            return Err(LineError::PeerClosed);
        }
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

/// Held while a message is taken in.
static RECEIVING: Mutex<()> = Mutex::new(());

/// Until there is something to read; an error when there is nothing in time.
fn wait(stream: &UnixStream, until: Instant) -> Result<(), LineError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforcement::Enforcement;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::{BufRead, BufReader};

    fn ask(lines: &str) -> Vec<String> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let why = "no-btf: test".into();
        let warden = Warden::new(
            Enforcement::Degraded { why, observer: None },
            crate::options::Options::default(),
        );
        let server = thread::spawn(move || {
            let peer = admit(&theirs);
            converse(theirs, peer.as_ref(), &warden, &Feed::default());
        });
        (&ours).write_all(lines.as_bytes()).expect("sent");
        ours.shutdown(std::net::Shutdown::Write).expect("shut");
        let answers = BufReader::new(&ours).lines().map_while(Result::ok).collect();
        server.join().expect("no panic");
        answers
    }

    #[test]
    fn several_requests_on_one_connection_are_answered_in_order() {
        let answers = ask("{\"v\":1,\"op\":\"status\"}\n{\"v\":1,\"op\":\"arm\"}\n");
        assert_eq!(answers.len(), 2);
        assert!(answers[0].contains("\"enforcing\":false") && answers[0].contains("no-btf"));
        assert!(answers[1].contains("\"refused\":\"not protected: degraded mode no-btf"));
    }

    #[test]
    fn unknown_operations_fields_and_versions_are_refused() {
        for line in [
            "{\"v\":1,\"op\":\"disarm\"}",
            "{\"v\":1,\"op\":\"arm\",\"x\":1}",
            "{\"v\":2,\"op\":\"arm\"}",
            "x",
        ] {
            let answers = ask(&format!("{line}\n"));
            assert!(
                answers.first().is_some_and(|answer| answer.contains("refused")),
                "{line}: {answers:?}"
            );
        }
    }

    #[test]
    fn protect_without_a_pidfd_is_refused() {
        let answers = ask("{\"v\":1,\"op\":\"protect\",\"unit\":\"x.service\",\"mode\":\"enforce\"}\n");
        assert!(answers[0].contains("no pidfd"), "{answers:?}");
    }

    #[test]
    fn descriptors_beside_a_line_are_closed_with_it_however_many_they_are() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut inbox = Inbox::new(&theirs);
        let held = || fs::read_dir("/proc/self/fd").expect("proc").count();
        for count in [1, MAX_DESCRIPTORS + 1, SENT_DESCRIPTORS] {
            let before = held();
            let fds = vec![ours.as_raw_fd(); count];
            let parts = [io::IoSlice::new(b"{}\n")];
            sendmsg::<()>(
                ours.as_raw_fd(),
                &parts,
                &[ControlMessage::ScmRights(&fds)],
                MsgFlags::empty(),
                None,
            )
            .expect("sent");
            assert_eq!(inbox.line(LINE_LIMIT).expect("a line"), b"{}\n");
            assert_eq!(inbox.descriptors.len(), count.min(MAX_DESCRIPTORS));
            inbox.descriptors.clear();
            // Other tests of this process open and close theirs meanwhile.
            assert!(
                held() < before + MAX_DESCRIPTORS + 20,
                "{count}: {} after {before}",
                held()
            );
        }
    }

    #[test]
    fn half_a_line_is_not_awaited_for_ever() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (&ours).write_all(b"{\"v\":1,").expect("sent");
        let begun = Instant::now();
        let answer = Inbox::new(&theirs).line(Duration::from_millis(50));
        assert!(matches!(answer, Err(LineError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!(begun.elapsed() < LINE_LIMIT);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let taken = Arc::default();
        let first = Place::take(&taken, 1);
        assert!(first.is_some() && Place::take(&taken, 1).is_none());
        drop(first);
        assert!(Place::take(&taken, 1).is_some());
    }
}
