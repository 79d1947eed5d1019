//! Calls that send to a socket.

use super::{Vector, absent_page, arrived, drain, line, memory_file, pair, slices, way, write};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
};
use std::{
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

const fn sent(vector: Vector) -> Vector {
    Vector {
        hook: "socket_sendmsg",
        ..vector
    }
}

pub(crate) const UNIX: Vector = sent(way(
    "LEAK_UNIX",
    "write(2) to a unix socket, as to the journal",
    "unix(7)",
    |_| {
        let (ours, theirs) = pair()?;
        let answer = write(ours.as_raw_fd() as u64, line().as_bytes());
        arrived(answer, "write", &drain(theirs))
    },
));

pub(crate) const TCP: Vector = sent(way(
    "LEAK_TCP",
    "send(2) over TCP: a reply that holds more than it should",
    "tcp(7)",
    |_| {
        let listener = TcpListener::bind("127.0.0.1:0").step("bind")?;
        let ours = TcpStream::connect(listener.local_addr().step("address")?).step("connect")?;
        let (theirs, _) = listener.accept().step("accept")?;
        let line = line();
        let args = [
            ours.as_raw_fd() as u64,
            line.as_ptr() as u64,
            line.len() as u64,
            0,
            0,
            0,
        ];
        let answer = sys::call(libc::SYS_sendto, args);
        drop(ours);
        arrived(answer, "send", &drain(theirs))
    },
));

fn message(parts: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: all zero is a valid msghdr: no name, no vectors, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len();
    message
}

pub(crate) const SENDMSG: Vector = sent(way(
    "LEAK_SENDMSG",
    "sendmsg(2) with the secret in its second part",
    "sendmsg(2)",
    |_| {
        let (ours, theirs) = pair()?;
        let line = line();
        let slices = slices(&[b"HTTP/1.1 200 OK\r\n", line.as_bytes()]);
        let message = message(&slices);
        let answer = sys::call(
            libc::SYS_sendmsg,
            [ours.as_raw_fd() as u64, &raw const message as u64, 0, 0, 0, 0],
        );
        arrived(answer, "sendmsg", &drain(theirs))
    },
));

fn datagrams() -> Attempt {
    let (ours, theirs) = UnixDatagram::pair().step("socketpair")?;
    theirs.set_nonblocking(true).step("nonblocking")?;
    let line = line();
    let (harmless, secret) = (slices(&[b"harmless"]), slices(&[line.as_bytes()]));
    let part = |slices| libc::mmsghdr {
        msg_hdr: message(slices),
        msg_len: 0,
    };
    let messages = [part(&harmless), part(&secret)];
    let send = |from: usize| {
        let args = [
            ours.as_raw_fd() as u64,
            &raw const messages[from] as u64,
            2 - from as u64,
            0,
            0,
            0,
        ];
        sys::call(libc::SYS_sendmmsg, args)
    };
    // sendmmsg(2): an error after the first is told by the next call.
    let answer = send(0).and_then(|count| if count == 1 { send(1) } else { Ok(count) });
    let mut holds = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(bytes) = theirs.recv(&mut buffer) {
        holds.extend_from_slice(&buffer[..bytes]);
    }
    if !holds.starts_with(b"harmless") {
        return Err(Failure::other("the first datagram is not there"));
    }
    arrived(answer, "sendmmsg", &holds)
}

pub(crate) const SENDMMSG: Vector = sent(way(
    "LEAK_SENDMMSG",
    "sendmmsg(2) with the secret in its second message",
    "sendmmsg(2)",
    |_| datagrams(),
));

pub(crate) const ABSENT_SEND: Vector = sent(way(
    "LEAK_ABSENT_SEND",
    "write(2) to a socket out of a page that is not in memory",
    "mmap(2)",
    |_| {
        let ((ours, theirs), file) = (pair()?, memory_file()?);
        let page = absent_page(&file)?;
        let args = [ours.as_raw_fd() as u64, page, line().len() as u64, 0, 0, 0];
        let answer = sys::call(libc::SYS_write, args);
        arrived(answer, "write", &drain(theirs))
    },
));
