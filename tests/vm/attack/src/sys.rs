//! System calls, all through syscall(2) so that no libc wrapper stands between the attempt and the kernel.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

/// Calls the kernel with up to six plain numbers or addresses.
pub(crate) fn call(number: libc::c_long, args: [u64; 6]) -> io::Result<u64> {
    // SAFETY: syscall(2). Each caller passes numbers, or addresses of buffers that it owns and that live
    // over the call with the sizes that the call's manual page wants.
    let done = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(done as u64)
    }
}

/// The same, for calls that give a new descriptor.
pub(crate) fn call_for_fd(number: libc::c_long, args: [u64; 6]) -> io::Result<OwnedFd> {
    let fd = call(number, args)?;
    // SAFETY: the call's manual page says that its result is a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    call_for_fd(libc::SYS_pidfd_open, [pid as u64, 0, 0, 0, 0, 0])
}

/// bpf(2) with an attribute of raw bytes.
pub(crate) fn bpf(command: u64, attr: &mut [u8]) -> io::Result<u64> {
    call(
        libc::SYS_bpf,
        [command, attr.as_mut_ptr() as u64, attr.len() as u64, 0, 0, 0],
    )
}
