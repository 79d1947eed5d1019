//! An allocator that counts: how much memory a thread holds at most while it works on one input. It turns an allocation by an
//! unchecked length into a failure at any size, where a limit of the process would show only the largest.

#![allow(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait: there is no safe way to see every allocation"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// One request for so many bytes fails at once: no parser has a reason for it, and the machine shall survive the run.
const REFUSED: usize = 1 << 30;

/// The system's allocator, counted. Each program of this crate makes it its own with `#[global_allocator]`.
pub struct Meter;

thread_local! {
    // Constant and without a destructor: reading it allocates nothing.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more, and nobody who asks.
    let _gone = HELD.try_with(|held| {
        let now = held.get().saturating_add(change);
        held.set(now);
        PEAK.with(|peak| peak.set(peak.get().max(now)));
    });
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every method hands its arguments unchanged to the system's allocator, or returns null, which GlobalAlloc allows for
// "out of memory"; counting touches only constant thread-local cells and neither allocates nor unwinds.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= REFUSED {
            return std::ptr::null_mut();
        }
        count(signed(layout.size()));
        // SAFETY: the caller's promises about the layout are System's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= REFUSED {
            return std::ptr::null_mut();
        }
        count(signed(layout.size()));
        // SAFETY: as in alloc.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the block came from System with this layout, because alloc and realloc give nothing else.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size >= REFUSED {
            return std::ptr::null_mut();
        }
        count(signed(size).saturating_sub(signed(layout.size())));
        // SAFETY: as in dealloc; the new size was promised to be valid by the caller.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Runs `work` and gives the most bytes that this thread held beyond what it held before.
pub fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    work();
    usize::try_from(PEAK.with(Cell::get).saturating_sub(before)).unwrap_or(0)
}
