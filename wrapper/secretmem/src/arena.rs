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
use crate::refusal;

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

/// In front of what lies in a region of its own.
#[repr(C, align(16))]
struct Large {
    previous: *mut Large,
    next: *mut Large,
    /// Of the whole region, bytes.
    len: usize,
}

/// Bytes in front of what lies in a region of its own.
const LARGE: usize = size_of::<Large>();

/// All memory of the process's heap.
pub struct Arena {
    blocks: Blocks,
    filled: usize,
    /// The regions of large blocks, newest first.
    large: *mut Large,
    /// Bytes of all regions.
    mapped: usize,
    /// Most that `mapped` may become.
    bound: usize,
}

// SAFETY: the pointers are to regions that belong to this value alone; they have no thread affinity.
unsafe impl Send for Arena {}

static ARENA: Mutex<Arena> = Mutex::new(Arena {
    blocks: Tlsf::new(),
    filled: 0,
    large: null_mut(),
    mapped: 0,
    bound: usize::MAX,
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

/// A block of at least `len` bytes at a multiple of [`ALIGN`] in a region of its own, or null. Its content is zeroed.
pub fn allocate_large(len: usize) -> *mut u8 {
    let Some(len) = len.checked_add(LARGE).and_then(map::pages) else {
        return null_mut();
    };
    let mut arena = lock();
    if !arena.may_map(len) {
        return null_mut();
    }
    let Some(region) = NonNull::new(map::obtain(Place::Any, len).cast::<Large>()) else {
        return null_mut();
    };
    let region = region.as_ptr();
    // SAFETY: a new region, longer than a Large; those in the list are regions that live, and the lock is held.
    unsafe {
        region.write(Large {
            previous: null_mut(),
            next: arena.large,
            len,
        });
        if let Some(next) = arena.large.as_mut() {
            next.previous = region;
        }
    }
    arena.large = region;
    arena.mapped += len;
    region.cast::<u8>().wrapping_add(LARGE)
}

/// Gives the region of a large block back.
///
/// # Safety
/// `block` came from [`allocate_large`] and nobody uses it any more.
pub unsafe fn release_large(block: NonNull<u8>) {
    let region = block.as_ptr().wrapping_sub(LARGE).cast::<Large>();
    let mut arena = lock();
    // SAFETY: the caller vouches for the block, so its Large is in front of it; its neighbours live, and the lock is held.
    let len = unsafe {
        let Large { previous, next, len } = region.read();
        match previous.as_mut() {
            Some(previous) => previous.next = next,
            None => arena.large = next,
        }
        if let Some(next) = next.as_mut() {
            next.previous = previous;
        }
        len
    };
    arena.mapped -= len;
    // The kernel clears each page of it: not while others wait.
    drop(arena);
    // SAFETY: the whole region, which nobody knows any more.
    unsafe { map::give_back(region.cast(), len) };
}

/// Lets the heap have at most `bound` bytes of regions from here on.
pub fn bound(bound: usize) {
    lock().bound = bound;
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
        let mut len = step.max(needed);
        if len > needed && self.mapped.saturating_add(len) > self.bound {
            len = needed;
        }
        if len > LEN.load(Ordering::Relaxed) - self.filled || !self.may_map(len) {
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
        self.mapped += len;
        true
    }

    fn may_map(&self, len: usize) -> bool {
        let may = self.mapped.saturating_add(len) <= self.bound;
        if !may {
            refusal::full(self.bound);
        }
        may
    }

    /// Every region, the small blocks' range as one: where it begins and its bytes.
    pub fn regions(&self) -> impl Iterator<Item = (*mut u8, usize)> {
        let small = (self.filled > 0).then(|| (START.load(Ordering::Acquire) as *mut u8, self.filled));
        let mut next = self.large;
        small.into_iter().chain(std::iter::from_fn(move || {
            // SAFETY: regions in the list live as long as the lock on this value is held.
            let region = unsafe { next.as_ref() }?;
            let found = (next.cast::<u8>(), region.len);
            next = region.next;
            Some(found)
        }))
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

/// Nobody else allocates or gives back meanwhile.
pub fn lock() -> MutexGuard<'static, Arena> {
    // Nothing under the lock panics; and a heap that is refused for ever after would only hide what did.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}
