//! bpf(2): programs by id, their attachment and their statistics. Layouts are those of include/uapi/linux/bpf.h.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::Result;

const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;

/// Bytes of `struct bpf_prog_info` up to and with `run_cnt`.
const INFO: usize = 208;
const INFO_NAME: usize = 64;
const INFO_RUN_TIME: usize = 192;
const INFO_RUN_COUNT: usize = 200;

/// One loaded program.
pub struct Program {
    /// As far as the kernel keeps it: 15 characters.
    pub name: String,
    fd: OwnedFd,
}

/// How often it ran since statistics were switched on, and for how long.
pub struct Ran {
    pub calls: u64,
    pub nanoseconds: u64,
}

/// All programs of the machine.
pub fn programs() -> Result<Vec<Program>> {
    let mut found = Vec::new();
    let mut last = 0_u32;
    loop {
        // start_id, next_id, open_flags
        let mut attr = [last, 0, 0];
        if call(PROG_GET_NEXT_ID, &mut attr).is_err() {
            return Ok(found);
        }
        last = attr[1];
        let fd = call(PROG_GET_FD_BY_ID, &mut [last, 0, 0]).map_err(crate::at("a program's descriptor"))?;
        let fd = owned(fd);
        let info = info(&fd)?;
        let name = info[INFO_NAME..INFO_NAME + 16]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        found.push(Program {
            name: String::from_utf8_lossy(name).into_owned(),
            fd,
        });
    }
}

impl Program {
    /// Calls it at its hook, until the descriptor is closed.
    pub fn attach(&self) -> Result<OwnedFd> {
        // name (a pointer, none), prog_fd, padding
        #[expect(clippy::cast_sign_loss, reason = "a descriptor")]
        let mut attr = [0_u64, self.fd.as_raw_fd() as u64, 0];
        call(RAW_TRACEPOINT_OPEN, &mut attr)
            .map(owned)
            .map_err(crate::at(&self.name))
    }

    /// Its statistics.
    pub fn ran(&self) -> Result<Ran> {
        let info = info(&self.fd)?;
        let number = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"));
        Ok(Ran {
            calls: number(INFO_RUN_COUNT),
            nanoseconds: number(INFO_RUN_TIME),
        })
    }
}

fn info(fd: &OwnedFd) -> Result<[u8; INFO]> {
    let mut info = [0_u8; INFO];
    let address = info.as_mut_ptr() as u64;
    // bpf_fd, info_len, info
    #[expect(clippy::cast_sign_loss, reason = "a descriptor")]
    let first = (fd.as_raw_fd() as u64) | ((INFO as u64) << 32);
    call(OBJ_GET_INFO_BY_FD, &mut [first, address]).map_err(crate::at("a program's statistics"))?;
    Ok(info)
}

fn call<T, const N: usize>(command: libc::c_long, attr: &mut [T; N]) -> std::io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `attr` within the size that it is told; a pointer in it is that of a live buffer whose
    // length stands beside it (see `info`).
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), std::mem::size_of_val(attr)) };
    if done < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(done)
    }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: bpf(2) has just made this descriptor for us alone; the number fits, as the kernel's descriptors are int.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are int")]
    unsafe {
        OwnedFd::from_raw_fd(fd as libc::c_int)
    }
}
