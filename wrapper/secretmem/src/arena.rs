//! The blocks of a process: one TLSF (two-level segregated fit; constant time, good fit, merges neighbours) over a range of
//! addresses that is filled with secret regions as it grows.
//!
//! The range is reserved once, so that the regions follow each other and the TLSF sees one growing pool, and so that an
//! address alone tells whether a block is the arena's. Regions are small because a region is one memfd and all of it counts
//! against RLIMIT_MEMLOCK from the beginning; its pages cost nothing until they are touched. Nothing goes back to the
//! kernel from here: a memfd's pages are only freed with its last mapping.

use std::alloc::Layout;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rlsf::Tlsf;

use crate::map::{self, Place};

/// Addresses reserved: more than any machine of ours gives a process of locked memory. Where RLIMIT_AS allows less (`LimitAS=` of a
/// service's unit binds the wrapper too), a quarter of it, and so on down to the least.
const RANGE: usize = 64 << 30;
const LEAST_RANGE: usize = 16 << 20;
/// A region is half of what there is, within these bounds. The least is all that a short-lived program needs.
const LEAST: usize = 512 << 10;
const MOST: usize = 8 << 20;
/// Alignment of every block.
pub const ALIGN: usize = 16;

/// 59 first-level classes over 32-byte units are all of 64 bits: only then does rlsf merge regions that follow each other.
type Blocks = Tlsf<'static, u64, u16, 59, 16>;

struct Arena {
    blocks: Blocks,
    filled: usize,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena {
    blocks: Tlsf::new(),
    filled: 0,
});
/// Start of the range; 0 until the first block is asked for.
static START: AtomicUsize = AtomicUsize::new(0);
/// Its length; set before START.
static LEN: AtomicUsize = AtomicUsize::new(0);

/// A block of at least `len` bytes at a multiple of [`ALIGN`], or null. Its content is not zeroed.
pub fn allocate(len: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(len, ALIGN) else {
        return null_mut();
    };
    let mut arena = lock();
    loop {
        if let Some(block) = arena.blocks.allocate(layout) {
            return block.as_ptr();
        }
        if !arena.grow(len) {
            return null_mut();
        }
    }
}

/// Takes a block back.
///
/// # Safety
/// `block` came from [`allocate`] and nobody uses it any more.
pub unsafe fn release(block: NonNull<u8>) {
    // SAFETY: the caller vouches for the block; its alignment was ALIGN in `allocate`.
    unsafe { lock().blocks.deallocate(block, ALIGN) };
}

/// Whether `address` lies in the range.
#[must_use]
pub fn contains(address: *const u8) -> bool {
    let start = START.load(Ordering::Acquire);
    start != 0 && (address as usize).wrapping_sub(start) < LEN.load(Ordering::Relaxed)
}

impl Arena {
    /// One more region, so that a block of `len` bytes fits into it. False when there is none.
    fn grow(&mut self, len: usize) -> bool {
        if START.load(Ordering::Acquire) == 0 && !reserve() {
            return false;
        }
        // A TLSF looks for a block in the next size class, at most a sixteenth larger, and a pool has its own headers.
        let Some(needed) = len.checked_add(len / 16 + map::PAGE).and_then(map::pages) else {
            return false;
        };
        let step = (self.filled / 2).clamp(LEAST, MOST) & !(map::PAGE - 1);
        let len = step.max(needed);
        if len > LEN.load(Ordering::Relaxed) - self.filled {
            return false;
        }
        let at = (START.load(Ordering::Acquire) + self.filled) as *mut u8;
        let Some(region) = NonNull::new(map::obtain(Place::Reserved(at), len)) else {
            return false;
        };
        let region = NonNull::slice_from_raw_parts(region, len);
        // SAFETY: a new mapping that only the TLSF knows from here on and that is never unmapped. All regions are whole
        // pages, so each is used to its end, and the next begins where the pool ends.
        unsafe {
            if self.filled == 0 {
                self.blocks.insert_free_block_ptr(region);
            } else {
                self.blocks.append_free_block_ptr(region);
            }
        }
        self.filled += len;
        true
    }
}

/// Reserves the range. False when there is none.
fn reserve() -> bool {
    let mut len = RANGE;
    while len >= LEAST_RANGE {
        let start = map::reserve(len);
        if !start.is_null() {
            LEN.store(len, Ordering::Relaxed);
            START.store(start as usize, Ordering::Release);
            return true;
        }
        len /= 4;
    }
    false
}

fn lock() -> MutexGuard<'static, Arena> {
    // Nothing under the lock panics; and a heap that is refused for ever after would only hide what did.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}
