//! process_madvise(2) MADV_COLD on a page of the victim.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};
use std::os::fd::AsRawFd;

pub(super) const VECTOR: Vector = Vector {
    name: "PROCESS_MADVISE",
    title: "process_madvise(2) MADV_COLD on a page of the victim",
    source: "process_madvise(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PROCESS_MADVISE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let page = target.address().step("find an address")? & !4095;
    let pidfd = sys::pidfd_open(target.pid).step("pidfd_open")?;
    let range = libc::iovec { iov_base: page as *mut libc::c_void, iov_len: 4096 };
    // MADV_COLD
    let args = [pidfd.as_raw_fd() as u64, &raw const range as u64, 1, 20, 0, 0];
    sys::call(libc::SYS_process_madvise, args).step("process_madvise")?;
    Ok("advised".into())
}
