//! The only unsafe code of the wrapper: the C entry point, and one question about extended attributes.
//!
//! Must never grow: what nix can do safely belongs elsewhere.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// For the whole of the wrapper, bytes. It counts against the LimitMEMLOCK= of the service's own unit.
const STACK: usize = 256 << 10;

/// The C entry point, because Rust's own one ignores SIGPIPE before we could see what systemd had set: the service
/// would inherit that and not what its unit says. `std::env` still works, it reads the arguments before `main`.
// SAFETY: `main` is defined once in this program, with the signature that C demands.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    let Err(error) = rempart_secretmem::on_secret_stack(STACK, crate::run::run);
    eprintln!("rempart-wrap: {}", error.line());
    i32::from(error.exit_code())
}

/// Whether the file gives capabilities to who executes it (capabilities(7)).
pub fn file_capabilities(file: &File) -> bool {
    let name = c"security.capability".as_ptr();
    // SAFETY: the name is NUL-terminated; with size 0 the kernel writes nothing and only tells the length.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name, std::ptr::null_mut(), 0) > 0 }
}
