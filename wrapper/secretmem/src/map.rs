//! Regions for a process's own heap and stacks: no descriptor stays, no child inherits them, no core dump has them.
//!
//! Runs inside the allocator, so nothing here may allocate. Must never hand out ordinary memory unless
//! [`crate::refusal`] says so. Follows memfd_secret(2), mmap(2).

use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use crate::refusal::{self, Refusal, Verdict};

/// Bytes of a page. The only one of x86-64; a larger one elsewhere makes `mmap` at a fixed address fail, which is a refusal.
pub const PAGE: usize = 4096;

/// `len` rounded up to whole pages, or `None` when that overflows.
pub fn pages(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(PAGE)
}

/// Where a region goes.
#[derive(Clone, Copy)]
pub enum Place {
    /// Wherever the kernel likes.
    Any,
    /// Over a range of [`reserve`], which nobody else uses.
    Reserved(*mut u8),
}

/// Address space without memory, which nothing else will be placed in; null when there is none.
pub fn reserve(len: usize) -> *mut u8 {
    anonymous(Place::Any, len, libc::PROT_NONE)
}

/// A zeroed region of `len` bytes (whole pages). Ordinary memory only where the operator allows it; null when even that is full.
///
/// Does not return when secret memory is refused and must not be replaced.
pub fn obtain(place: Place, len: usize) -> *mut u8 {
    let refused = match secret(place, len) {
        Ok(start) => return start,
        Err(refused) => refused,
    };
    match refusal::judge(refused) {
        Verdict::Again => match secret(place, len) {
            Ok(start) => start,
            Err(refused) => {
                refusal::settle_for_ordinary(refused);
                ordinary(place, len)
            }
        },
        Verdict::Ordinary => ordinary(place, len),
        Verdict::Nothing => null_mut(),
    }
}

/// A zeroed secret region of `len` bytes (whole pages) that a child by fork inherits, shared.
///
/// # Errors
/// The kernel's refusal.
pub fn inherited(len: usize) -> Result<*mut u8, Refusal> {
    let start = secret_shared(Place::Any, len)?;
    advise(start.cast(), len, libc::MADV_DONTDUMP)
        // SAFETY: just made, and nobody knows it.
        .inspect_err(|_| unsafe { give_back(start, len) })?;
    Ok(start)
}

/// Moves what is mapped at `from` to `to`, where it is private to this process from here on; false when the kernel refuses.
///
/// # Safety
/// `from` is a region of [`inherited`] of `len` bytes, all of them, that no other process maps any more or will touch; nothing
/// that is still used is mapped at `to`.
pub unsafe fn adopt(from: *mut u8, to: *mut u8, len: usize) -> bool {
    // SAFETY: the caller vouches for both ranges (mremap(2)).
    let moved = unsafe { libc::mremap(from.cast(), len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) };
    moved != libc::MAP_FAILED && advise(to.cast(), len, libc::MADV_DONTFORK).is_ok()
}

/// `len` bytes (whole pages) of ordinary memory for what is no secret; null when there is none.
pub fn scratch(len: usize) -> *mut u8 {
    anonymous(Place::Any, len, libc::PROT_READ | libc::PROT_WRITE)
}

/// Which of the pages from `start` on have ever been touched: bit 0 of each of `seen`. Where the kernel does not tell, all have.
pub fn touched(start: *mut u8, seen: &mut [u8]) {
    // SAFETY: mincore(2) writes one byte for each page of the range, and reads none of it.
    if unsafe { libc::mincore(start.cast(), seen.len() * PAGE, seen.as_mut_ptr()) } != 0 {
        seen.fill(1);
    }
}

/// Gives a region of [`obtain`] or [`reserve`] back. The kernel clears secret pages when their last mapping goes.
///
/// # Safety
/// The range is one that those functions gave, or whole pages of one, and nobody uses it any more.
pub unsafe fn give_back(start: *mut u8, len: usize) {
    // SAFETY: the caller vouches for the range; a failure leaves it mapped, which is a leak and no more.
    unsafe { libc::munmap(start.cast(), len) };
}

fn secret(place: Place, len: usize) -> Result<*mut u8, Refusal> {
    let start = secret_shared(place, len)?;
    keep_private(start.cast(), len).map(|()| start)
}

fn secret_shared(place: Place, len: usize) -> Result<*mut u8, Refusal> {
    let descriptor = crate::area::memfd_secret().map_err(|_| Refusal::last("memfd_secret", len))?;
    let length = libc::off_t::try_from(len).map_err(|_| Refusal::of("ftruncate", len, libc::EFBIG))?;
    // SAFETY: changes the length of a file that only we know.
    if unsafe { libc::ftruncate(descriptor.as_raw_fd(), length) } != 0 {
        return Err(Refusal::last("ftruncate", len));
    }
    let (at, fixed) = position(place);
    // SAFETY: without an address the kernel takes a free range; with one it is a reserved range, which holds nothing
    // (Place::Reserved). MAP_SHARED is the only kind that memfd_secret allows. The mapping outlives the descriptor.
    let start = unsafe {
        libc::mmap(
            at,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | fixed,
            descriptor.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(Refusal::last("mmap", len));
    }
    Ok(start.cast())
}

fn ordinary(place: Place, len: usize) -> *mut u8 {
    let start = anonymous(place, len, libc::PROT_READ | libc::PROT_WRITE);
    if !start.is_null() {
        // What the operator allows is ordinary memory, not copies of it; without the advice it is still that.
        let _ = keep_private(start.cast(), len);
    }
    start
}

/// Not in a core dump, and not in a child: there it would be shared with us, and what each writes the other would read.
fn keep_private(start: *mut libc::c_void, len: usize) -> Result<(), Refusal> {
    advise(start, len, libc::MADV_DONTDUMP)?;
    advise(start, len, libc::MADV_DONTFORK)
}

fn advise(start: *mut libc::c_void, len: usize, advice: libc::c_int) -> Result<(), Refusal> {
    // SAFETY: our own mapping; neither advice that is given here changes its content (madvise(2)).
    if unsafe { libc::madvise(start, len, advice) } != 0 {
        return Err(Refusal::last("madvise", len));
    }
    Ok(())
}

fn anonymous(place: Place, len: usize, protection: libc::c_int) -> *mut u8 {
    let (at, fixed) = position(place);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    // SAFETY: as in `secret`: a free range, or a reserved one.
    let start = unsafe { libc::mmap(at, len, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        null_mut()
    } else {
        start.cast()
    }
}

fn position(place: Place) -> (*mut libc::c_void, libc::c_int) {
    match place {
        Place::Any => (null_mut(), 0),
        Place::Reserved(at) => (at.cast(), libc::MAP_FIXED),
    }
}
