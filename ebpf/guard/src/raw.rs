//! System calls that no safe wrapper covers: task storage by pidfd, pidfds, SO_PEERPIDFD. Each function
//! takes and gives safe types; nothing here decides anything.

use rempart_bpf_common::Label;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// `BPF_MAP_LOOKUP_ELEM` and its two siblings of bpf(2).
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
/// Since Linux 6.5; libc does not know it yet on all versions.
const SO_PEERPIDFD: libc::c_int = 77;

/// The part of `union bpf_attr` that element commands use.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element(command: libc::c_long, map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, value: *mut u8) -> io::Result<()> {
    let key: libc::c_int = pidfd.as_raw_fd();
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const key) as u64,
        value: value as u64,
        flags: 0,
    };
    // SAFETY: bpf(2): attr is the element layout and lives over the call; key points to an int and value
    // to Label::SIZE bytes (deleting reads no value), the sizes with which the task storage map was created. No safe wrapper: aya
    // has no task storage.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<ElementAttr>()) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets the label of the process behind `pidfd`.
pub(crate) fn set_label(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, label: &Label) -> io::Result<()> {
    let mut value = label.encode();
    element(MAP_UPDATE, map, pidfd, value.as_mut_ptr())
}

/// The label of the process behind `pidfd`, if it has one.
pub(crate) fn label(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> io::Result<Option<Label>> {
    let mut value = [0u8; Label::SIZE];
    match element(MAP_LOOKUP, map, pidfd, value.as_mut_ptr()) {
        Ok(()) => Ok(Label::decode(&value).filter(|label| label.unit != 0)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the label of the process behind `pidfd` away.
pub(crate) fn clear_label(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> io::Result<()> {
    element(MAP_DELETE, map, pidfd, std::ptr::null_mut())
}

/// A pidfd for a process id; what it names is only sure for one's own child or oneself.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// The process that connected, as a pidfd; `None` before Linux 6.5.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> Option<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: getsockopt(2): fd is an int and length its size, both live over the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if done != 0 || fd < 0 {
        return None;
    }
    // SAFETY: unix(7): the option gives a new descriptor that the caller owns.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes ownership of a descriptor that recvmsg(2) delivered.
pub(crate) fn received(fd: libc::c_int) -> OwnedFd {
    // SAFETY: unix(7), SCM_RIGHTS: descriptors in a received control message are new ones of the receiver;
    // the only caller hands each over once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
