//! Calls that write to a file or pipe.

use super::{SECRET, Sink, Vector, arrived, drain, line, memory_file, slices, way, write};
use crate::{
    attempt::{Attempt, Step},
    sys,
};
use std::{io, os::fd::AsRawFd};

pub(crate) const WRITE: Vector = way(
    "LEAK_WRITE",
    "write(2) of a log line with a secret in it to a file",
    "write(2)",
    |_| {
        let sink = Sink::new()?;
        let answer = write(sink.fd(), line().as_bytes());
        arrived(answer, "write", &sink.holds())
    },
);

pub(crate) const PWRITE: Vector = way("LEAK_PWRITE", "pwrite(2), at a position", "pwrite(2)", |_| {
    let (sink, line) = (Sink::new()?, line());
    let args = [sink.fd(), line.as_ptr() as u64, line.len() as u64, 100, 0, 0];
    arrived(sys::call(libc::SYS_pwrite64, args), "pwrite", &sink.holds())
});

fn vectored(parts: &[&[u8]]) -> Attempt {
    let (sink, slices) = (Sink::new()?, slices(parts));
    let args = [sink.fd(), slices.as_ptr() as u64, slices.len() as u64, 0, 0, 0];
    arrived(sys::call(libc::SYS_writev, args), "writev", &sink.holds())
}

pub(crate) const WRITEV: Vector = way(
    "LEAK_WRITEV",
    "writev(2) with the secret in its first part",
    "writev(2)",
    |_| vectored(&[line().as_bytes(), b"\n"]),
);

pub(crate) const WRITEV_LATER: Vector = way(
    "LEAK_WRITEV_LATER",
    "writev(2) with the secret over its third and fourth part",
    "writev(2)",
    |_| {
        let (first, second) = SECRET.as_bytes().split_at(15);
        vectored(&[b"GET /", &[b'.'; 5000], first, second, b" HTTP/1.1\r\n"])
    },
);

pub(crate) const DEEP: Vector = way(
    "LEAK_DEEP",
    "write(2) of 2 MiB with the secret behind the first",
    "write(2)",
    |_| {
        let mut bytes = vec![b'-'; 2 << 20];
        let at = (1 << 20) + 4093;
        bytes[at..at + SECRET.len()].copy_from_slice(SECRET.as_bytes());
        let sink = Sink::new()?;
        let answer = write(sink.fd(), &bytes);
        arrived(answer, "write", &sink.holds())
    },
);

pub(crate) const PIPE: Vector = way(
    "LEAK_PIPE",
    "write(2) to a pipe, as standard output of a service is",
    "pipe(7)",
    |_| {
        let (theirs, ours) = io::pipe().step("pipe")?;
        let flags = [
            theirs.as_raw_fd() as u64,
            libc::F_SETFL as u64,
            libc::O_NONBLOCK as u64,
            0,
            0,
            0,
        ];
        sys::call(libc::SYS_fcntl, flags).step("fcntl")?;
        let answer = write(ours.as_raw_fd() as u64, line().as_bytes());
        arrived(answer, "write", &drain(theirs))
    },
);

pub(crate) const SPLIT: Vector = Vector {
    note: "what the first call wrote is out: here 14 bytes of the secret",
    ..way(
        "LEAK_SPLIT",
        "two write(2) with a part of the secret in each",
        "write(2)",
        |_| {
            let (sink, line) = (Sink::new()?, line());
            let cut = line.find(SECRET).unwrap_or(0) + 14;
            write(sink.fd(), &line.as_bytes()[..cut]).step("first write")?;
            let answer = write(sink.fd(), &line.as_bytes()[cut..]);
            let holds = sink.holds();
            arrived(answer, "second write", if holds.len() == cut { &[] } else { &holds })
        },
    )
};

pub(crate) const DRIBBLE: Vector = Vector {
    note: "16 to 23 bytes of a long secret are out before it is known",
    ..way("LEAK_DRIBBLE", "write(2) of one byte after another", "write(2)", |_| {
        let sink = Sink::new()?;
        let bytes = line().into_bytes();
        let answer = bytes.iter().try_fold(0, |_, byte| write(sink.fd(), &[*byte]));
        let holds = sink.holds();
        let out = holds.len().saturating_sub(line().find(SECRET).unwrap_or(0));
        arrived(answer, "write of one byte", if out < 24 { &[] } else { &holds })
    })
};

pub(crate) const SENDFILE: Vector = way(
    "LEAK_SENDFILE",
    "sendfile(2) from a memory file, as a delivered secret is: the data does not pass through the process",
    "sendfile(2)",
    |_| {
        let (sink, file) = (Sink::new()?, memory_file()?);
        let args = [sink.fd(), file.as_raw_fd() as u64, 0, 4096, 0, 0];
        arrived(sys::call(libc::SYS_sendfile, args), "sendfile", &sink.holds())
    },
);

/// struct iocb of io_submit(2).
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: u16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: u64,
    reserved: u64,
    flags: u32,
    result_fd: u32,
}

/// IOCB_CMD_PWRITE
const PWRITE_COMMAND: u16 = 1;

pub(crate) const AIO: Vector = way(
    "LEAK_AIO",
    "io_submit(2): a write that the kernel makes later",
    "io_submit(2)",
    |_| {
        let (sink, line, mut context) = (Sink::new()?, line(), 0u64);
        sys::call(libc::SYS_io_setup, [1, &raw mut context as u64, 0, 0, 0, 0]).step("io_setup")?;
        let request = Request {
            opcode: PWRITE_COMMAND,
            fd: sink.fd() as u32,
            buffer: line.as_ptr() as u64,
            bytes: line.len() as u64,
            ..Request::default()
        };
        let list = [&raw const request as u64];
        let answer = sys::call(libc::SYS_io_submit, [context, 1, list.as_ptr() as u64, 0, 0, 0]);
        // Ends when the write has ended.
        sys::call(libc::SYS_io_destroy, [context, 0, 0, 0, 0, 0]).step("io_destroy")?;
        arrived(answer, "io_submit", &sink.holds())
    },
);

/// Bytes of struct io_uring_params.
const PARAMS: usize = 120;

pub(crate) const RING: Vector = Vector {
    hook: "inode_init_security_anon",
    recorded_as: "IO_URING",
    note: "refused in the modes enforce and kill: no hook is told what a ring writes to a file",
    ..way(
        "LEAK_IO_URING",
        "io_uring_setup(2): a ring, whose writes to files pass no hook with their data",
        "io_uring(7)",
        |_| {
            let mut params = [0u8; PARAMS];
            sys::call_for_fd(libc::SYS_io_uring_setup, [1, params.as_mut_ptr() as u64, 0, 0, 0, 0])
                .step("io_uring_setup")?;
            Ok("made a ring".into())
        },
    )
};
