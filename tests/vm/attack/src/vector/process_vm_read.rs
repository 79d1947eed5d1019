//! process_vm_readv(2). The control of all memory vectors: it shows the bytes it got.

use super::{common, Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCESS_VM_READ",
    title: "process_vm_readv(2)",
    source: "process_vm_readv(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PROCESS_VM_READ",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    let mut buffer = [0u8; 32];
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buffer.len() };
    let args = [target.pid as u64, &raw const local as u64, 1, &raw const remote as u64, 1, 0];
    let got = sys::call(libc::SYS_process_vm_readv, args).step("process_vm_readv")?;
    Ok(format!("{got} bytes at {addr:x}: {}", common::hex(&buffer[..got as usize])))
}
