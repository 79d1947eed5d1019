//! The C library's names for the heap: cryptography, TPM and database libraries allocate by them.
//!
//! `whole_process!` exports them from the program, whose symbols come before those of the C library for every library in
//! the process (ld.so(8)). Each is what malloc(3) and posix_memalign(3) say of it. Not for use by Rust code.
#![allow(clippy::missing_safety_doc, missing_docs)] // They are the manual's functions, with the manual's contracts.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use crate::heap::{self, ALIGN};
pub use crate::stack::pthread_create;
/// For the signature of `pthread_create`.
pub use libc::{pthread_attr_t as Attributes, pthread_t as Thread};

#[must_use]
pub fn malloc(size: usize) -> *mut c_void {
    or_enomem(heap::allocate(size, ALIGN))
}

#[must_use]
pub fn calloc(count: usize, size: usize) -> *mut c_void {
    or_enomem(
        count
            .checked_mul(size)
            .map_or(null_mut(), |size| heap::allocate_zeroed(size, ALIGN)),
    )
}

pub unsafe fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: free's contract is that of `release`, but for null.
        unsafe { heap::release(block.cast()) }
    }
}

#[must_use]
pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return malloc(size);
    }
    if size == 0 {
        // As the C library does it: the block is given back.
        // SAFETY: realloc's contract is that of free.
        unsafe { free(block) };
        return null_mut();
    }
    // SAFETY: realloc's contract is that of `resize`; C promises no more than ALIGN of its result.
    or_enomem(unsafe { heap::resize(block.cast(), size, ALIGN) })
}

#[must_use]
pub unsafe fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: reallocarray's contract is that of realloc.
        Some(size) => unsafe { realloc(block, size) },
        None => or_enomem(null_mut()),
    }
}

pub unsafe fn posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let block = heap::allocate(size, align);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gives a place for one pointer.
    unsafe { result.write(block.cast()) };
    0
}

#[must_use]
pub fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => or_enomem(heap::allocate(size, align)),
        None => or_enomem(null_mut()),
    }
}

#[must_use]
pub fn valloc(size: usize) -> *mut c_void {
    memalign(crate::map::PAGE, size)
}

#[must_use]
pub fn pvalloc(size: usize) -> *mut c_void {
    crate::map::pages(size).map_or_else(|| or_enomem(null_mut()), valloc)
}

#[must_use]
pub unsafe fn malloc_usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller's contract is that of `capacity`, but for null.
    unsafe { heap::capacity(block.cast()) }
}

fn or_enomem(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        // SAFETY: the thread's own errno.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
    }
    block.cast()
}
