//! exec(3) with an array of arguments: the new program gets the environment without the secrets.
//!
//! Called between fork or vfork and exec, so nothing here may allocate or lock in the common case.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::page::without_secrets;
use crate::start::environ;

type Strings = *const *const c_char;
type ExecVpe = unsafe extern "C" fn(*const c_char, Strings, Strings) -> c_int;

/// The C library's function behind an interposed one, looked up at first use.
pub(crate) struct Next {
    name: &'static std::ffi::CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    pub(crate) const fn new(name: &'static std::ffi::CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Its address; the process ends when there is none, for then nothing could be filtered.
    pub(crate) fn address(&self) -> *mut c_void {
        let mut address = self.found.load(Ordering::Relaxed);
        if address.is_null() {
            // SAFETY: the name is a C string; RTLD_NEXT searches the objects behind this one (dlsym(3)).
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            if address.is_null() {
                // SAFETY: abort has no preconditions.
                unsafe { libc::abort() };
            }
            self.found.store(address, Ordering::Relaxed);
        }
        address
    }
}

static EXECVPE: Next = Next::new(c"execvpe");

/// execve(2).
///
/// # Safety
/// As execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the caller's arrays are those of execve(2); the kernel checks the rest and reports through errno.
    unsafe {
        without_secrets(environment, -1, |environment| {
            libc::syscall(libc::SYS_execve, path, arguments, environment) as c_int
        })
    }
}

/// execv(3).
///
/// # Safety
/// As execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: environ is an environment, and the rest is the caller's promise.
    unsafe { execve(path, arguments, environ.cast_const().cast()) }
}

/// execvpe(3).
///
/// # Safety
/// As execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the symbol execvpe of the C library has this type (unistd.h); the arrays are the caller's promise.
    unsafe {
        let next: ExecVpe = std::mem::transmute(EXECVPE.address());
        without_secrets(environment, -1, |environment| next(file, arguments, environment))
    }
}

/// execvp(3).
///
/// # Safety
/// As execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as in execv.
    unsafe { execvpe(file, arguments, environ.cast_const().cast()) }
}

/// fexecve(3).
///
/// # Safety
/// As fexecve(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(descriptor: c_int, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: an empty path with AT_EMPTY_PATH executes the descriptor itself (execveat(2)).
    unsafe { execveat(descriptor, c"".as_ptr(), arguments, environment, libc::AT_EMPTY_PATH) }
}

/// execveat(2).
///
/// # Safety
/// As execveat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execveat(
    directory: c_int,
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    // SAFETY: as in execve.
    unsafe {
        without_secrets(environment, -1, |environment| {
            libc::syscall(libc::SYS_execveat, directory, path, arguments, environment, flags) as c_int
        })
    }
}

/// Looks up what may be needed after vfork, where a first look-up would be unsafe.
pub(crate) fn prepare() {
    EXECVPE.address();
}
