//! Ways that this version does not stop. Each shows where watching a service's output ends.

use super::{SECRET, Sink, Vector, absent_page, arrived, line, memory_file, open_way, slices, write};
use crate::{
    attempt::{Failure, Step},
    sys,
};
use std::{
    fs, io,
    os::fd::AsRawFd,
    process::{Command, Stdio},
};

pub(crate) const ENCODED: Vector = open_way(
    "LEAK_ENCODED",
    "write(2) of the secret in hexadecimal",
    "write(2)",
    "any encoding, compression or encryption is other bytes",
    |_| {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let sink = Sink::new()?;
        write(sink.fd(), hex.as_bytes()).step("write")?;
        match sink.holds() == hex.as_bytes() {
            true => Ok("the secret left in hexadecimal".into()),
            false => Err(Failure::other("it is not there")),
        }
    },
);

pub(crate) const ABSENT: Vector = open_way(
    "LEAK_ABSENT",
    "write(2) to a file out of a page that is not in memory",
    "mmap(2)",
    "file_permission may not wait for a page; sending may (LEAK_ABSENT_SEND)",
    |_| {
        let (sink, file) = (Sink::new()?, memory_file()?);
        let page = absent_page(&file)?;
        let answer = sys::call(libc::SYS_write, [sink.fd(), page, line().len() as u64, 0, 0, 0]);
        arrived(answer, "write", &sink.holds())
    },
);

pub(crate) const MAPPED: Vector = open_way(
    "LEAK_MAPPED",
    "a store into a shared mapping of a file",
    "mmap(2)",
    "no call is made that could be refused",
    |_| {
        let sink = Sink::new()?;
        sink.file.set_len(4096).step("ftruncate")?;
        let flags = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let page = sys::call(libc::SYS_mmap, [0, 4096, flags, libc::MAP_SHARED as u64, sink.fd(), 0]).step("mmap")?;
        // SAFETY: the page is ours, writable, and longer than the secret.
        unsafe { std::ptr::copy_nonoverlapping(SECRET.as_ptr(), page as *mut u8, SECRET.len()) };
        arrived(Ok(0), "a store", &sink.holds())
    },
);

pub(crate) const SPLICE: Vector = open_way(
    "LEAK_SPLICE",
    "vmsplice(2) of a page into a pipe, then splice(2) into a file",
    "vmsplice(2)",
    "vmsplice has no hook, and a pipe's pages are not the process's; memory that is secret is refused by the kernel",
    |_| {
        let (theirs, ours) = io::pipe().step("pipe")?;
        let (sink, line) = (Sink::new()?, line());
        let slices = slices(&[line.as_bytes()]);
        let args = [ours.as_raw_fd() as u64, slices.as_ptr() as u64, 1, 0, 0, 0];
        sys::call(libc::SYS_vmsplice, args).step("vmsplice")?;
        let args = [theirs.as_raw_fd() as u64, 0, sink.fd(), 0, line.len() as u64, 0];
        arrived(sys::call(libc::SYS_splice, args), "splice", &sink.holds())
    },
);

pub(crate) const ARGUMENTS: Vector = open_way(
    "LEAK_ARGUMENTS",
    "execve(2) with the secret among the arguments, which everybody may list",
    "execve(2)",
    "the kernel copies them page by page, without a hook that is told",
    |_| {
        // It lives until its standard input is closed.
        let mut child = Command::new("sh")
            .args(["-c", "read line", SECRET])
            .stdin(Stdio::piped())
            .spawn()
            .step("execve")?;
        // The parent goes on when the child has its new memory; the arguments are listed some steps later.
        let list = || fs::read(format!("/proc/{}/cmdline", child.id())).step("cmdline");
        let has = |text: &Vec<u8>| text.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        let mut listed = list();
        for _ in 0..100 {
            if listed.as_ref().is_ok_and(has) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            listed = list();
        }
        let _ = child.kill();
        child.wait().step("wait")?;
        arrived(Ok(0), "execve", &listed?)
    },
);
