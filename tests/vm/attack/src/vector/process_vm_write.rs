//! process_vm_writev(2): writes the byte that is there, so that the victim goes on as before.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PROCESS_VM_WRITE",
    title: "process_vm_writev(2): writes the byte that is there, so that the victim goes on as before",
    source: "process_vm_writev(2)",
    hook: "ptrace_access_check",
    scope: Scope::Process,
    recorded_as: "PROCESS_VM_WRITE",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    let mut byte = [0u8; 1];
    let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: 1 };
    let args = [target.pid as u64, &raw const local as u64, 1, &raw const remote as u64, 1, 0];
    // Where reading is refused we do not know the byte, and the write shall be refused as well.
    let _ = sys::call(libc::SYS_process_vm_readv, args);
    let put = sys::call(libc::SYS_process_vm_writev, args).step("process_vm_writev")?;
    Ok(format!("{put} byte at {addr:x}"))
}
