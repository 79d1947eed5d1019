//! The start: what holds from the first block on, and the constructor, which says in time that it cannot hold.
//!
//! Runs with one thread. Fails closed: the process ends with one line and EX_OSERR.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use rempart_secretmem::foreign;

/// The variable by which rempart-wrap tells, and children inherit, how much the heap may have, in bytes.
const SIZE: &[u8] = b"REMPART_HEAP=";
/// Without the variable, bytes: the default of `MemorySize=`.
const USUAL: usize = 256 << 20;
/// EX_OSERR of sysexits.h.
const FAILED: c_int = 71;

unsafe extern "C" {
    static environ: *const *const c_char;
}

// SAFETY: the dynamic loader calls what this section points to once, after relocation (System V ABI, gABI 5).
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

static BEGUN: AtomicBool = AtomicBool::new(false);

/// Makes the heap that of a program which is not ours. There is one thread when the first block is asked for.
pub fn begin() {
    if !BEGUN.load(Ordering::Relaxed) {
        foreign::begin();
        foreign::bound(USUAL);
        BEGUN.store(true, Ordering::Relaxed);
    }
}

extern "C" fn start() {
    begin();
    crate::fork::register();
    // SAFETY: one thread so far; environ is null or a null-terminated array of C strings (environ(7)).
    match unsafe { size() } {
        Ok(size) => foreign::bound(size),
        Err(()) => end("rempart: service ended before its start: REMPART_HEAP is damaged\n"),
    }
    if !first_malloc_is_ours() {
        end(
            "rempart: service ended before its start: its program brings a malloc of its own, so its heap cannot be secret; set Memory=ordinary in [X-Rempart] of its unit\n",
        );
    }
    // SAFETY: a block that is given back at once.
    unsafe {
        let block = rempart_secretmem::c::malloc(1);
        if block.is_null() {
            end("rempart: service ended before its start: it would have no secret heap\n");
        }
        rempart_secretmem::c::free(block);
    }
}

/// Whether the C library allocates from our heap. A program that brings a malloc of its own comes before us: it would stay in
/// ordinary memory, and nobody would know. Symbols do not tell: a program may have an entry for ours.
fn first_malloc_is_ours() -> bool {
    // SAFETY: a C string in, a block of whoever is malloc out, given back to the same.
    unsafe {
        let copy = libc::strdup(c"x".as_ptr());
        let ours = copy.is_null() || foreign::contains(copy.cast());
        libc::free(copy.cast());
        ours
    }
}

/// What the environment says.
///
/// # Safety
/// `environ` is null or null-terminated.
unsafe fn size() -> Result<usize, ()> {
    // SAFETY: every index up to the null is readable, and what is there are C strings.
    unsafe {
        let mut entry = environ;
        while let Some(text) = entry.as_ref().filter(|text| !text.is_null()) {
            if let Some(number) = CStr::from_ptr(*text).to_bytes().strip_prefix(SIZE) {
                let number = str::from_utf8(number).map_err(|_| ())?;
                return number.parse().map_err(|_| ());
            }
            entry = entry.add(1);
        }
    }
    Ok(USUAL)
}

fn end(line: &str) -> ! {
    // SAFETY: the pointer and length are those of one string; _exit ends the process without running anything.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
        libc::_exit(FAILED)
    }
}
