//! Blocks as `GlobalAlloc` and the C library know them: found by their address alone, and wiped when they are given back.
//!
//! In front of each lies where its memory begins and how large it is, because `free` is told neither. Large ones are
//! regions of their own, so that their memory goes back to the kernel.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{Ordering, compiler_fence};

use crate::arena;

/// Alignment of every block, C's `max_align_t`.
pub const ALIGN: usize = 16;
/// From here a block is a region of its own. Each costs some system calls, and 25 µs a page when it is first touched.
const OWN_REGION: usize = 4 << 20;
/// Larger requests get null: no part of ours makes them, and who does must get an error and not the end of the process.
const LARGEST: usize = 1 << 30;

/// What lies in front of a block.
#[repr(C, align(16))]
struct Header {
    /// The arena's block, or the region.
    begins: NonNull<u8>,
    /// Bytes that the caller may use.
    capacity: usize,
}

const HEADER: usize = size_of::<Header>();

/// The process's heap. Zero-sized: there is one.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

// SAFETY: `allocate` gives distinct blocks of at least the size and alignment of the layout, valid until `release`; no
// function here unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(layout.size(), layout.align())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate_zeroed(layout.size(), layout.align())
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { release(block) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract is ours.
        unsafe { resize(block, size, layout.align()) }
    }
}

/// A block of `size` bytes at a multiple of `align` (a power of two), or null.
pub fn allocate(size: usize, align: usize) -> *mut u8 {
    let align = align.max(ALIGN);
    if size > LARGEST || align > LARGEST {
        return null_mut();
    }
    let capacity = size.max(1).next_multiple_of(ALIGN);
    // The arena's blocks and regions are multiples of ALIGN, so a larger alignment needs room to be found in.
    let whole = HEADER + capacity + (align - ALIGN);
    let begins = if whole < OWN_REGION {
        arena::allocate(whole)
    } else {
        arena::allocate_large(whole)
    };
    let Some(begins) = NonNull::new(begins) else {
        return null_mut();
    };
    let block = begins.as_ptr().wrapping_add(HEADER);
    let block = block.wrapping_add(block.align_offset(align));
    // SAFETY: HEADER bytes in front of `block` are inside what was just obtained, at a multiple of 16.
    unsafe { header(block).write(Header { begins, capacity }) };
    block
}

/// The same, with zeroes.
pub fn allocate_zeroed(size: usize, align: usize) -> *mut u8 {
    let block = allocate(size, align);
    // A region of its own is new from the kernel, and to touch it here would cost its pages.
    if !block.is_null() && arena::contains(block) {
        // SAFETY: the block has `size` bytes and nobody else knows it.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

/// Wipes a block and takes it back.
///
/// # Safety
/// `block` came from here, was not given back, and nobody uses it any more.
pub unsafe fn release(block: *mut u8) {
    // SAFETY: the caller vouches for the block, so its header is there and its capacity is ours to write.
    unsafe {
        let Header { begins, capacity } = header(block).read();
        if arena::contains(block) {
            block.write_bytes(0, capacity);
            // The stores must not be dropped as writes to memory that is about to be given up.
            compiler_fence(Ordering::SeqCst);
            arena::release(begins);
        } else {
            arena::release_large(begins);
        }
    }
}

/// A block of `size` bytes with the content of `block`, which it may be itself; or null, and `block` is untouched.
///
/// # Safety
/// As [`release`], and `align` is that of the block.
pub unsafe fn resize(block: *mut u8, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the block.
    let capacity = unsafe { capacity(block) };
    // A block that shrinks to less than half gives its memory back.
    if size <= capacity && size >= capacity / 2 {
        return block;
    }
    let larger = allocate(size, align);
    if !larger.is_null() {
        // SAFETY: two different blocks, both at least that long; the old one is given up here.
        unsafe {
            larger.copy_from_nonoverlapping(block, capacity.min(size));
            release(block);
        }
    }
    larger
}

/// How many bytes of `block` may be used.
///
/// # Safety
/// `block` came from here and was not given back.
pub unsafe fn capacity(block: *mut u8) -> usize {
    // SAFETY: the caller vouches for the block, so its header is in front of it.
    unsafe { (*header(block)).capacity }
}

fn header(block: *mut u8) -> *mut Header {
    block.wrapping_sub(HEADER).cast()
}
