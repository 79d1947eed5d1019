//! fork(3): it fails where the child could have no heap of its own.
//!
//! Copying is the last thing before the C library forks and the first after it: handlers of pthread_atfork(3) use the heap. The
//! C library runs those that were registered first last before a fork and first after it, so ours must come before all others:
//! they are registered by whoever comes first, a constructor of ours or the first that registers some.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use rempart_secretmem::foreign;

type Handler = Option<unsafe extern "C" fn()>;
type Register = unsafe extern "C" fn(Handler, Handler, Handler, *mut c_void) -> c_int;
type Fork = unsafe extern "C" fn() -> libc::pid_t;

static REGISTER: Next = Next::new(c"__register_atfork");
static FORK: Next = Next::new(c"fork");
static BARE_FORK: Next = Next::new(c"_Fork");

unsafe extern "C" fn before() {
    foreign::before();
}

unsafe extern "C" fn in_parent() {
    foreign::in_parent();
}

unsafe extern "C" fn in_child() {
    foreign::in_child();
}

/// Registers our handlers, once.
pub fn register() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        // SAFETY: the symbol of the C library has this type (its register-atfork.c); no library owns the handlers, so they
        // are never taken away.
        unsafe {
            let next: Register = std::mem::transmute(REGISTER.address());
            if next(Some(before), Some(in_parent), Some(in_child), std::ptr::null_mut()) != 0 {
                libc::abort();
            }
        }
    }
}

/// What pthread_atfork(3) calls in the C library.
///
/// # Safety
/// As pthread_atfork(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __register_atfork(
    prepare: Handler,
    parent: Handler,
    child: Handler,
    owner: *mut c_void,
) -> c_int {
    register();
    // SAFETY: as in `register`; the rest is the caller's promise.
    unsafe {
        let next: Register = std::mem::transmute(REGISTER.address());
        next(prepare, parent, child, owner)
    }
}

/// fork(3). ENOMEM where there is no room for a child's heap.
///
/// # Safety
/// As fork(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> libc::pid_t {
    register();
    if let Err(refused) = foreign::reserve() {
        return refuse(&refused);
    }
    // SAFETY: the symbol has this type (unistd.h). It runs our handlers.
    let pid = unsafe { std::mem::transmute::<*mut c_void, Fork>(FORK.address())() };
    // The heap grew after the reservation and there was no room for that: the child has ended by itself.
    if pid > 0 && foreign::failed() {
        // SAFETY: reaps that child, of which nobody else knows.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        return no_memory();
    }
    pid
}

/// _Fork(3), which runs no handlers. For a signal handler only while nobody is inside malloc, else it waits for ever.
///
/// # Safety
/// As _Fork(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Fork() -> libc::pid_t {
    if let Err(refused) = foreign::reserve() {
        return refuse(&refused);
    }
    foreign::before();
    // SAFETY: the symbol has this type (unistd.h).
    let pid = unsafe { std::mem::transmute::<*mut c_void, Fork>(BARE_FORK.address())() };
    if pid == 0 {
        foreign::in_child();
    } else {
        foreign::in_parent();
    }
    pid
}

fn refuse(refused: &rempart_secretmem::Refusal) -> libc::pid_t {
    foreign::say(format_args!("rempart: this program cannot fork: {refused}\n"));
    no_memory()
}

fn no_memory() -> libc::pid_t {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
    -1
}

/// The C library's function behind ours, looked up at first use.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Its address; the process ends when there is none.
    fn address(&self) -> *mut c_void {
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
