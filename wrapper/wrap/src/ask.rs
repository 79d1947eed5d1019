//! The one question to the agent: give my unit its secrets.
//!
//! The question names nothing; the agent learns from the kernel who asks. Must never accept an answer whose items
//! reach outside the area.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rempart_api::PROTOCOL_VERSION;
use rempart_api::agent::{Item, Reply, Request};
use rempart_api::line::{self, MAX_LINE};
use rempart_api::path::AGENT_SOCKET;
use rempart_secretmem::{Area, TransferError, receive_line, send_line};

use crate::error::Error;

/// The agent may have to ask a vault; longer than any sane vault takes, shorter than systemd's own patience (90 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// The secrets of this unit.
#[derive(Debug)]
pub struct Released {
    /// `None` when the unit has no secret.
    area: Option<Area>,
    /// What lies where.
    pub items: Vec<Item>,
    /// Most bytes of the secret heap that the service has to run on.
    pub heap: Option<u64>,
    /// The agent, when it wants to replace what the files hold later.
    pub keeper: Option<UnixStream>,
}

impl Released {
    #[cfg(test)]
    pub fn of(area: Area, items: Vec<Item>) -> Self {
        Self {
            area: Some(area),
            items,
            heap: None,
            keeper: None,
        }
    }

    /// The value of `item`.
    pub fn value(&self, item: &Item) -> &[u8] {
        self.area
            .as_ref()
            .map_or(&[], |area| &area.as_slice()[item.offset..item.offset + item.len])
    }
}

/// Asks and waits.
///
/// # Errors
/// The agent is away, refuses, or answers outside the protocol.
pub fn ask() -> Result<Released, Error> {
    let away = |why: String| Error::AgentAway {
        path: AGENT_SOCKET,
        why,
    };
    let socket = UnixStream::connect(AGENT_SOCKET).map_err(|e| away(e.to_string()))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .map_err(|e| Error::system("set a timeout", e))?;
    socket
        .set_write_timeout(Some(PATIENCE))
        .map_err(|e| Error::system("set a timeout", e))?;
    let question =
        line::encode(&Request::Release { v: PROTOCOL_VERSION }).map_err(|e| Error::AgentProtocol(e.to_string()))?;
    // An agent that refuses at once has said why before it is asked.
    let sent = send_line(socket.as_fd(), &question, &[]);
    let (answer, descriptor) = receive_line(socket.as_fd(), MAX_LINE).map_err(|e| match e {
        TransferError::PeerLineTooLong(_) | TransferError::PeerSentMore => Error::AgentProtocol(e.to_string()),
        other => away(sent.err().unwrap_or(other).to_string()),
    })?;
    judge(&answer, descriptor, socket)
}

/// Hands the agent a writable descriptor of each file. It can replace what they hold as long as it has these, and this process gives them up.
///
/// # Errors
/// The agent is gone.
pub fn keep(keeper: &UnixStream, files: Vec<(String, OwnedFd)>) -> Result<(), Error> {
    let (names, descriptors): (Vec<String>, Vec<OwnedFd>) = files.into_iter().unzip();
    let words = Request::Keep {
        v: PROTOCOL_VERSION,
        names,
    };
    let line = line::encode(&words).map_err(|e| Error::AgentProtocol(e.to_string()))?;
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    send_line(keeper.as_fd(), &line, &descriptors).map_err(|e| Error::AgentAway {
        path: AGENT_SOCKET,
        why: e.to_string(),
    })
}

fn judge(answer: &[u8], descriptor: Option<OwnedFd>, socket: UnixStream) -> Result<Released, Error> {
    let outside = |why: &str| Error::AgentProtocol(why.to_owned());
    let reply: Reply = line::decode(answer).map_err(|e| Error::AgentProtocol(e.to_string()))?;
    match reply {
        Reply::Refused { refused, .. } => Err(Error::RefusedByAgent(refused)),
        Reply::Released { v, .. } if v != PROTOCOL_VERSION => Err(outside("another protocol version")),
        Reply::Released {
            area_len,
            items,
            heap,
            keep,
            ..
        } => {
            let inside = |item: &Item| item.offset.checked_add(item.len).is_some_and(|end| end <= area_len);
            if !items.iter().all(inside) {
                return Err(outside("an item lies outside the area"));
            }
            let area = match (area_len, descriptor) {
                (0, _) => None,
                (_, Some(descriptor)) => Some(Area::map(descriptor, area_len)?),
                (_, None) => return Err(outside("no descriptor came with the answer")),
            };
            Ok(Released {
                area,
                items,
                heap,
                keeper: keep.then_some(socket),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(answer: &[u8], descriptor: Option<OwnedFd>) -> Result<Released, Error> {
        super::judge(answer, descriptor, UnixStream::pair().expect("pair").0)
    }

    #[test]
    fn values_are_found_by_offset() {
        let mut area = Area::create(8).expect("memfd_secret");
        area.as_mut_slice()[2..5].copy_from_slice(b"abc");
        let answer = br#"{"v":1,"area_len":8,"items":[{"name":"A","deliver":"env","offset":2,"len":3}]}"#;
        let released = judge(answer, Some(area.into_descriptor())).expect("valid");
        assert_eq!(released.value(&released.items[0]), b"abc");
        assert_eq!(released.heap, None);
        let answer = br#"{"v":1,"area_len":0,"items":[],"heap":4194304}"#;
        let released = judge(answer, None).expect("valid");
        assert_eq!((released.heap, released.keeper.is_some()), (Some(4 << 20), false));
        let answer = br#"{"v":1,"area_len":0,"items":[],"keep":true}"#;
        assert!(judge(answer, None).expect("valid").keeper.is_some());
    }

    #[test]
    fn items_outside_the_area_are_refused() {
        for (offset, len) in [(6, 3), (usize::MAX, 2), (9, 0)] {
            let answer = format!(
                r#"{{"v":1,"area_len":8,"items":[{{"name":"A","deliver":"env","offset":{offset},"len":{len}}}]}}"#
            );
            let fd = Area::create(8).expect("memfd_secret").into_descriptor();
            assert!(matches!(
                judge(answer.as_bytes(), Some(fd)),
                Err(Error::AgentProtocol(_))
            ));
        }
    }

    #[test]
    fn refusals_other_versions_and_missing_descriptors_release_nothing() {
        assert!(
            matches!(judge(br#"{"v":1,"refused":"locked"}"#, None), Err(Error::RefusedByAgent(t)) if t == "locked")
        );
        assert!(judge(br#"{"v":2,"area_len":0,"items":[]}"#, None).is_err());
        assert!(judge(br#"{"v":1,"area_len":8,"items":[]}"#, None).is_err());
        assert!(judge(b"{}", None).is_err());
        assert!(judge(br#"{"v":1,"area_len":0,"items":[]}"#, None).is_ok());
    }
}
