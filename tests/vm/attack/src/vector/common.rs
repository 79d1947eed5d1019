//! What several vectors do the same way.

use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
};
use std::{
    ffi::CString,
    fs,
    io::{self, Read},
};

/// Opens a file and reads from it: both must succeed.
pub(super) fn read_file(path: &str) -> Attempt {
    let mut file = fs::File::open(path).step(&format!("open {path}"))?;
    let mut buffer = [0u8; 4096];
    let got = file.read(&mut buffer).step(&format!("read {path}"))?;
    Ok(format!("{got} bytes of {path}"))
}

/// Opens a character device by a node of our own: names do not count.
pub(super) fn open_device(major: u32, minor: u32, options: &fs::OpenOptions) -> Result<io::Result<fs::File>, Failure> {
    let path = format!("/dev/rempart-attack-{major}-{minor}");
    let name = CString::new(path.as_str()).map_err(|_| Failure::other("a NUL in the path"))?;
    let mode = u64::from(libc::S_IFCHR | 0o600);
    let args = [name.as_ptr() as u64, mode, libc::makedev(major, minor), 0, 0, 0];
    sys::call(libc::SYS_mknod, args).step("mknod")?;
    let opened = options.open(&path);
    let _ = fs::remove_file(&path);
    Ok(opened)
}

/// Reads memory through a mem file, so that bytes really arrive.
pub(super) fn read_mem(path: &str, addr: u64) -> Attempt {
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(path).step(&format!("open {path}"))?;
    let mut buffer = [0u8; 16];
    let got = file.read_at(&mut buffer, addr).step(&format!("read {path}"))?;
    if got == 0 {
        return Err(Failure::other("no bytes"));
    }
    Ok(format!("{got} bytes at {addr:x}: {}", hex(&buffer[..got])))
}

/// Opens for writing and writes back what is there.
pub(super) fn rewrite(path: &str) -> Attempt {
    use std::io::Write;
    let before = fs::read_to_string(path).step(&format!("read {path}"))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .step(&format!("open {path} for writing"))?;
    let text = before.trim_end_matches('\n');
    // Files of procfs that show hexadecimal want it marked.
    let text = if path.ends_with("coredump_filter") {
        format!("0x{text}")
    } else {
        text.to_owned()
    };
    file.write_all(text.as_bytes()).step(&format!("write {path}"))?;
    Ok(format!("wrote {path}"))
}

/// waitpid for a ptrace stop, then detach.
pub(super) fn detach(pid: i32) {
    let mut status = 0i32;
    let _ = sys::call(
        libc::SYS_wait4,
        [pid as u64, &raw mut status as u64, libc::__WALL as u64, 0, 0, 0],
    );
    let _ = sys::call(libc::SYS_ptrace, [libc::PTRACE_DETACH as u64, pid as u64, 0, 0, 0, 0]);
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Little-endian fields into a bpf attribute.
pub(super) fn attr<const N: usize>(fields: &[(usize, u64, usize)]) -> [u8; N] {
    let mut bytes = [0u8; N];
    for (at, value, width) in fields {
        bytes[*at..at + width].copy_from_slice(&value.to_le_bytes()[..*width]);
    }
    bytes
}
