//! posix_spawn(3), system(3) and popen(3): the child gets the environment without the secrets.
//!
//! The C library's system and popen spawn inside, past our interposer, so they are made anew here on top of ours.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use crate::exec::Next;
use crate::page::without_secrets;
use crate::start::environ;

type Spawn = unsafe extern "C" fn(
    *mut libc::pid_t,
    *const c_char,
    *const c_void,
    *const c_void,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Popen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut libc::FILE;

static SPAWN: Next = Next::new(c"posix_spawn");
static SPAWNP: Next = Next::new(c"posix_spawnp");
static POPEN: Next = Next::new(c"popen");

/// posix_spawn(3).
///
/// # Safety
/// As posix_spawn(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    // SAFETY: the symbol has this type (spawn.h); everything else is the caller's promise.
    unsafe {
        let next: Spawn = std::mem::transmute(SPAWN.address());
        without_secrets(environment, libc::ENOMEM, |e| {
            next(pid, path, actions, attributes, arguments, e)
        })
    }
}

/// posix_spawnp(3).
///
/// # Safety
/// As posix_spawnp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    // SAFETY: as in posix_spawn.
    unsafe {
        let next: Spawn = std::mem::transmute(SPAWNP.address());
        without_secrets(environment, libc::ENOMEM, |e| {
            next(pid, file, actions, attributes, arguments, e)
        })
    }
}

/// system(3), by POSIX: SIGINT and SIGQUIT ignored and SIGCHLD blocked here while the shell runs with our settings.
///
/// # Safety
/// As system(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    if command.is_null() {
        return 1;
    }
    // SAFETY: every structure is filled by its own init call before use; the arrays live until the child is reaped.
    unsafe {
        let (mut ignore, mut old_int, mut old_quit) = (zeroed(), zeroed(), zeroed());
        let ignored: &mut libc::sigaction = &mut ignore;
        ignored.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(libc::SIGINT, ignored, &raw mut old_int);
        libc::sigaction(libc::SIGQUIT, ignored, &raw mut old_quit);
        let mut blocked: libc::sigset_t = zeroed();
        let mut old_mask: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut old_mask);
        let status = shell(command, &old_int, &old_quit, &old_mask);
        let errno = *libc::__errno_location();
        libc::sigaction(libc::SIGINT, &raw const old_int, std::ptr::null_mut());
        libc::sigaction(libc::SIGQUIT, &raw const old_quit, std::ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old_mask, std::ptr::null_mut());
        *libc::__errno_location() = errno;
        status
    }
}

/// # Safety
/// `command` is a C string.
unsafe fn shell(
    command: *const c_char,
    old_int: &libc::sigaction,
    old_quit: &libc::sigaction,
    old_mask: &libc::sigset_t,
) -> c_int {
    // SAFETY: as in system.
    unsafe {
        let mut attributes = MaybeUninit::<libc::posix_spawnattr_t>::uninit();
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        let mut reset: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut reset);
        for (signal, old) in [(libc::SIGINT, old_int), (libc::SIGQUIT, old_quit)] {
            if old.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&raw mut reset, signal);
            }
        }
        libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), &raw const reset);
        libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), old_mask);
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as _);
        let arguments = [
            c"sh".as_ptr(),
            c"-c".as_ptr(),
            c"--".as_ptr(),
            command,
            std::ptr::null(),
        ];
        let mut pid = 0;
        let failed = posix_spawn(
            &raw mut pid,
            c"/bin/sh".as_ptr(),
            std::ptr::null(),
            attributes.as_ptr().cast(),
            arguments.as_ptr(),
            environ.cast_const().cast(),
        );
        libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
        if failed != 0 {
            // What a shell that could not be executed gives (system(3)).
            return 127 << 8;
        }
        let mut status = 0;
        while libc::waitpid(pid, &raw mut status, 0) == -1 {
            if *libc::__errno_location() != libc::EINTR {
                return -1;
            }
        }
        status
    }
}

/// popen(3): the C library reads `environ` itself, so it is another one for the length of the call. A thread that asks
/// getenv for a secret in that moment does not find it; POSIX leaves changing `environ` beside getenv undefined anyway.
///
/// # Safety
/// As popen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the symbol has this type (stdio.h); environ is put back before the filtered array goes away.
    unsafe {
        let next: Popen = std::mem::transmute(POPEN.address());
        let own = environ;
        without_secrets(own.cast_const().cast(), std::ptr::null_mut(), |filtered| {
            environ = filtered.cast_mut().cast();
            let stream = next(command, mode);
            environ = own;
            stream
        })
    }
}

/// # Safety
/// All-zero bytes must be a valid `T`: used for sigaction and sigset_t only.
unsafe fn zeroed<T>() -> T {
    // SAFETY: the caller's promise.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
