//! One line of text and the descriptors that go with it over a stream socket (SCM_RIGHTS, unix(7)).
//!
//! The descriptor is what carries the secret; the line never does. Must never keep a descriptor that was not asked
//! for: too many, or a cut control message, is an error and everything received is closed.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, send, sendmsg};

/// Most descriptors in one message (SCM_MAX_FD): each is received and owned, or the kernel would leave it to nobody.
const MOST: usize = 253;

/// Why a line or its descriptor did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The peer closed the connection before its line ended.
    #[error("the peer closed the connection before its answer was complete")]
    PeerClosed,
    /// The peer sent more than it may.
    #[error("the peer sent a line of more than {0} bytes")]
    PeerLineTooLong(usize),
    /// The peer sent more than one descriptor, or bytes behind its line.
    #[error("the peer sent more than one line and one descriptor")]
    PeerSentMore,
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Socket(#[source] Errno),
}

/// Sends `line` (which ends in a line feed) with `descriptors`, at most 253 (SCM_MAX_FD).
///
/// # Errors
/// [`TransferError::Socket`]; the descriptors may then have arrived all the same.
pub fn send_line(socket: BorrowedFd<'_>, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), TransferError> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = (!raw.is_empty()).then_some(ControlMessage::ScmRights(&raw));
    let control: Vec<_> = rights.into_iter().collect();
    let mut rest = line;
    let parts = [IoSlice::new(rest)];
    let sent = retry(|| sendmsg::<()>(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None))?;
    rest = &rest[sent..];
    while !rest.is_empty() {
        let sent = retry(|| send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL))?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Receives one line of at most `max` bytes, without its line feed, and the descriptor that came with it.
///
/// # Errors
/// Whatever the peer or the socket did wrong.
pub fn receive_line(socket: BorrowedFd<'_>, max: usize) -> Result<(Vec<u8>, Option<OwnedFd>), TransferError> {
    let mut line = Vec::new();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    loop {
        let (bytes, received) = receive_part(socket)?;
        descriptors.extend(received);
        if bytes.is_empty() {
            return Err(TransferError::PeerClosed);
        }
        line.extend_from_slice(&bytes);
        if line.len() > max {
            return Err(TransferError::PeerLineTooLong(max));
        }
        match line.iter().position(|b| *b == b'\n') {
            Some(end) if end + 1 == line.len() && descriptors.len() <= 1 => {
                line.pop();
                return Ok((line, descriptors.pop()));
            }
            Some(_) => return Err(TransferError::PeerSentMore),
            None => {}
        }
    }
}

/// Receives what is there, at most 4096 bytes, with the descriptors that came along; no byte is the end.
///
/// # Errors
/// [`TransferError::Timeout`] also when nothing is there on a socket that does not wait.
pub fn receive_part(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), TransferError> {
    let mut bytes = vec![0u8; 4096];
    let mut control = nix::cmsg_space!([RawFd; MOST]);
    let (len, descriptors, flags) = retry(|| {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel installed these descriptors for this very message; nobody else knows them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok((message.bytes, descriptors, message.flags))
    })?;
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(TransferError::PeerSentMore);
    }
    bytes.truncate(len);
    Ok((bytes, descriptors))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, TransferError> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(TransferError::Timeout),
            Err(why) => return Err(TransferError::Socket(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_and_a_descriptor_arrive_together() {
        let (here, there) = UnixStream::pair().expect("pair");
        let mut area = crate::Area::create(16).expect("memfd_secret");
        area.as_mut_slice()[0] = 9;
        let fd = area.into_descriptor();
        let long = [vec![b'x'; 10_000], b"\n".to_vec()].concat();
        send_line(here.as_fd(), &long, &[fd.as_fd()]).expect("send");
        let (line, received) = receive_line(there.as_fd(), 65_536).expect("receive");
        assert_eq!(line.len(), 10_000);
        let area = crate::Area::map(received.expect("descriptor"), 16).expect("map");
        assert_eq!(area.as_slice()[0], 9);
    }

    #[test]
    fn endless_cut_and_double_answers_are_refused() {
        let try_with = |bytes: &[u8]| {
            let (here, there) = UnixStream::pair().expect("pair");
            send_line(here.as_fd(), bytes, &[]).expect("send");
            drop(here);
            receive_line(there.as_fd(), 100).expect_err("refused")
        };
        assert!(matches!(try_with(&[b'x'; 200]), TransferError::PeerLineTooLong(100)));
        assert!(matches!(try_with(b"cut"), TransferError::PeerClosed));
        assert!(matches!(try_with(b"one\ntwo\n"), TransferError::PeerSentMore));
    }
}
