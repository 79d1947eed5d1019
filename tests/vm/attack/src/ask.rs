//! Speaks to the guard's socket as the agent would: lines as given, a pidfd beside the first one.

use crate::sys;
use std::{
    io::{self, BufRead, BufReader},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

/// Sends bytes with at most one descriptor.
pub(crate) fn send(stream: &UnixStream, bytes: &[u8], pidfd: Option<&OwnedFd>) -> io::Result<()> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr() as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    #[repr(C, align(8))]
    struct Control {
        header: libc::cmsghdr,
        fd: libc::c_int,
        pad: libc::c_int,
    }
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: 20,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd: pidfd.map_or(-1, AsRawFd::as_raw_fd),
        pad: 0,
    };
    // SAFETY: all zero is a valid msghdr: no name, no vectors, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if pidfd.is_some() {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>();
    }
    let sent = sys::call(
        libc::SYS_sendmsg,
        [stream.as_raw_fd() as u64, &raw const message as u64, 0, 0, 0, 0],
    )?;
    if sent as usize == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::other("line was cut"))
    }
}

pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let (mut socket, mut pid, mut follow, mut lines) = ("/run/rempart-guard/guard.sock", None, false, Vec::new());
    while let Some(word) = words.next() {
        match word {
            "--socket" => socket = words.next().ok_or("--socket wants a path")?,
            "--pidfd" => pid = Some(words.next().and_then(|p| p.parse().ok()).ok_or("--pidfd wants a pid")?),
            "--follow" => follow = true,
            line => lines.push(line),
        }
    }
    let pidfd = pid
        .map(sys::pidfd_open)
        .transpose()
        .map_err(|error| format!("{socket}: {error}"))?;
    exchange(socket, &lines, pidfd, follow)
}

/// Says `lines`, `beside` going with the first, and prints what is answered.
pub(crate) fn exchange(
    socket: &str,
    lines: &[&str],
    mut beside: Option<OwnedFd>,
    follow: bool,
) -> Result<ExitCode, String> {
    let said = |error: io::Error| format!("{socket}: {error}");
    let stream = UnixStream::connect(socket).map_err(said)?;
    let mut answers = BufReader::new(stream.try_clone().map_err(said)?).lines();
    let mut refused = false;
    for line in lines {
        send(&stream, format!("{line}\n").as_bytes(), beside.take().as_ref()).map_err(said)?;
        if follow {
            continue;
        }
        let answer = answers.next().ok_or("the guard closed the connection")?.map_err(said)?;
        refused |= answer.contains("\"refused\"");
        println!("{answer}");
    }
    if follow {
        for answer in answers {
            println!("{}", answer.map_err(said)?);
        }
    }
    Ok(ExitCode::from(u8::from(refused)))
}
