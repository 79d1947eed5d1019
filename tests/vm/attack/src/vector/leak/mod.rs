//! What a service puts out with one of its own secrets in it: each attempt is made by the protected process itself, and what arrives is
//! looked at. All are recorded as SECRET_LEAK but for the ring.
//!
//! To add one: a `Way` in one of the files below, and its line in [`super::ALL`].

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// Ways that this version does not stop.
mod open;
/// Calls that send to a socket.
mod socket;
/// Calls that write to a file or pipe.
mod write;

pub(super) use open::{ABSENT, ARGUMENTS, ENCODED, MAPPED, SPLICE};
pub(super) use socket::{ABSENT_SEND, SENDMMSG, SENDMSG, TCP, UNIX};
pub(super) use write::{AIO, DEEP, DRIBBLE, PIPE, PWRITE, RING, SENDFILE, SPLIT, WRITE, WRITEV, WRITEV_LATER};

/// The secret that these attempts put out.
pub(crate) const SECRET: &str = "q7Vd-0p3xKz9wLm2eRt6yUi8oAs4dFg1hJk5";

/// A vector of this family, with the columns that they share.
const fn way(
    name: &'static str,
    title: &'static str,
    source: &'static str,
    attempt: fn(&super::Target) -> Attempt,
) -> Vector {
    Vector {
        name,
        title,
        source,
        hook: "file_permission",
        scope: Scope::Leak,
        recorded_as: "SECRET_LEAK",
        stopped: true,
        note: "",
        attempt,
    }
}

/// The same for what is not stopped, and why.
const fn open_way(
    name: &'static str,
    title: &'static str,
    source: &'static str,
    note: &'static str,
    attempt: fn(&super::Target) -> Attempt,
) -> Vector {
    Vector {
        hook: "",
        recorded_as: "",
        stopped: false,
        note,
        ..way(name, title, source, attempt)
    }
}

/// A line of a log.
fn line() -> String {
    format!("config: listen=0.0.0.0:8080 api_token={SECRET} workers=4\n")
}

/// A new file to write to, which is gone at the end.
struct Sink {
    file: File,
    path: String,
}

impl Sink {
    fn new() -> Result<Self, Failure> {
        let path = format!("/tmp/leak-sink-{}", std::process::id());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .step("open")?;
        Ok(Sink { file, path })
    }

    fn fd(&self) -> u64 {
        self.file.as_raw_fd() as u64
    }

    fn holds(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // What cannot be removed lies in the throw-away file system of a test.
        let _ = fs::remove_file(&self.path);
    }
}

/// The call's answer and what has arrived. A refusal after which a part is there is no denial.
fn arrived(answer: io::Result<u64>, what: &str, holds: &[u8]) -> Attempt {
    let has = |part: &[u8]| holds.windows(part.len()).any(|window| window == part);
    match answer.step(what) {
        Err(failure) if failure.is_denial() && SECRET.as_bytes().windows(4).any(has) => Err(Failure::other(format!(
            "{what} was refused, but a part of the secret had left"
        ))),
        Err(failure) => Err(failure),
        Ok(_) if has(SECRET.as_bytes()) => Ok(format!("the secret left by {what}")),
        Ok(_) => Err(Failure::other(format!("{what} went well, but the secret is not there"))),
    }
}

fn write(fd: u64, bytes: &[u8]) -> io::Result<u64> {
    sys::call(
        libc::SYS_write,
        [fd, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0, 0],
    )
}

fn slices(parts: &[&[u8]]) -> Vec<libc::iovec> {
    let slice = |part: &&[u8]| libc::iovec {
        iov_base: part.as_ptr() as *mut libc::c_void,
        iov_len: part.len(),
    };
    parts.iter().map(slice).collect()
}

/// A pair of which one end can be read without waiting.
fn pair() -> Result<(UnixStream, UnixStream), Failure> {
    let (ours, theirs) = UnixStream::pair().step("socketpair")?;
    theirs.set_nonblocking(true).step("nonblocking")?;
    Ok((ours, theirs))
}

/// What is there to be read now.
fn drain(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    // It ends with EAGAIN, which is no error here.
    let _ = from.read_to_end(&mut all);
    all
}

/// A memory file with a line in it, at its beginning.
fn memory_file() -> Result<OwnedFd, Failure> {
    let file =
        sys::call_for_fd(libc::SYS_memfd_create, [c"leak".as_ptr() as u64, 0, 0, 0, 0, 0]).step("memfd_create")?;
    write(file.as_raw_fd() as u64, line().as_bytes()).step("write to a memory file")?;
    sys::call(libc::SYS_lseek, [file.as_raw_fd() as u64, 0, 0, 0, 0, 0]).step("lseek")?;
    Ok(file)
}

/// A page with a line in it that this process has never touched: its address.
fn absent_page(file: &OwnedFd) -> Result<u64, Failure> {
    let args = [
        0,
        4096,
        libc::PROT_READ as u64,
        libc::MAP_SHARED as u64,
        file.as_raw_fd() as u64,
        0,
    ];
    sys::call(libc::SYS_mmap, args).step("mmap")
}
