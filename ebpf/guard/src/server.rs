//! The guard socket: JSON lines, a pidfd beside the line where one is needed. Only root and user rempart
//! are heard, judged by SO_PEERCRED.

use crate::{
    feed::Feed,
    raw,
    warden::{self, Peer, Warden, outcome},
};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sockopt},
    unistd::{Gid, Group, User, chown, geteuid},
};
use rempart_api::{
    PROTOCOL_VERSION,
    guard::{Outcome, Request},
    line::{self, LineError, MAX_LINE},
};
use std::{
    collections::VecDeque,
    fs,
    io::{self, IoSliceMut, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// The agent needs two connections; the rest is for tools.
const MAX_CONNECTIONS: usize = 16;
/// A subscriber that takes nothing for so long is dropped.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A stranger's line is awaited for so long.
const STRANGER_LIMIT: Duration = Duration::from_secs(1);
/// Descriptors that may lie ahead of their request.
const MAX_DESCRIPTORS: usize = 4;

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
    let connections = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
                connections.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (warden, feed, connections) = (Arc::clone(&warden), feed.clone(), Arc::clone(&connections));
            thread::spawn(move || {
                converse(stream, &warden, &feed);
                connections.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
}

fn converse(stream: UnixStream, warden: &Warden, feed: &Feed) {
    let Some(peer) = admit(&stream) else {
        // Its line is taken first: closing over unread data would cost it the answer.
        let _ = stream.set_read_timeout(Some(STRANGER_LIMIT));
        let _ = Inbox::new(&stream).line();
        let _ = reply(&stream, &refused("only root and user rempart may talk to the guard"));
        return;
    };
    let _ = stream.set_write_timeout(Some(WRITE_LIMIT));
    let mut inbox = Inbox::new(&stream);
    loop {
        let request = match inbox.line() {
            Ok(bytes) => line::decode::<Request>(&bytes),
            Err(LineError::PeerClosed) => return,
            Err(error) => Err(error),
        };
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
                ..
            }) => reply(&stream, &outcome(warden.arm(&node, files, tpm_exclusive))),
            Ok(Request::Remember { name, digest, .. }) => {
                reply(&stream, &outcome(warden.remember(&peer, &name, &digest)))
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
                let pidfd = inbox.descriptors.pop_front();
                reply(
                    &stream,
                    &outcome(warden.protect(&peer, &unit, mode, allow_degraded, pidfd)),
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
                let file = inbox.descriptors.pop_front();
                let prints = match prints {
                    0 => Ok(None),
                    _ => warden::prints(file, prints, wide, step).map(Some),
                };
                let watched = prints.and_then(|prints| warden.watch(&peer, &unit, mode, prints));
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
    for line in feed.subscribe() {
        if stream.write_all(&line).is_err() {
            return;
        }
    }
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

    fn line(&mut self) -> Result<Vec<u8>, LineError> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.bytes, rest));
            }
            if self.bytes.len() >= MAX_LINE {
                return Err(LineError::PeerLineTooLong);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), LineError> {
        let mut chunk = [0u8; 4096];
        let mut control = cmsg_space!([libc::c_int; MAX_DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(&mut chunk)];
        let message = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        for item in message.cmsgs().map_err(io::Error::from)? {
            if let ControlMessageOwned::ScmRights(fds) = item {
                self.descriptors.extend(fds.into_iter().map(raw::received));
            }
        }
        self.descriptors.truncate(MAX_DESCRIPTORS);
        let count = message.bytes;
        if count == 0 {
            return Err(LineError::PeerClosed);
        }
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforcement::Enforcement;
    use std::io::{BufRead, BufReader};

    fn ask(lines: &str) -> Vec<String> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let why = "no-btf: test".into();
        let warden = Warden::new(Enforcement::Degraded { why }, crate::options::Options::default());
        let server = thread::spawn(move || converse(theirs, &warden, &Feed::default()));
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
}
