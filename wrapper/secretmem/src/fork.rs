//! A heap of one's own for a child by fork: secret memory can only be mapped shared, so what ordinary memory does by itself,
//! copy on write, is done here by hand.
//!
//! The parent copies what is used into new secret regions, its *copies*, which the child inherits. The heap itself is not
//! inherited: at its addresses the child finds nothing, until it moves the copies there. It does that where the C library calls
//! [`in_child`], or at its first touch of the heap if that is earlier: before it calls anybody, fork(3) of a process with
//! threads resets the locks of open streams and the data of the other threads, and both may lie in the heap. That touch
//! is a SIGSEGV, which [`before`] has prepared for.
//!
//! Must never let two processes share a page of the heap, and never let a child run on a heap that is not whole. Only pages
//! that hold something are copied, for each page costs when it is first touched.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use crate::arena::{self, Arena};
use crate::map::{self, PAGE};
use crate::refusal::{self, Refusal};

/// Pages that are looked at together.
const TOGETHER: usize = 1024;
/// Exit code of a child that has no heap: EX_OSERR of sysexits.h.
const EX_OSERR: c_int = 71;

/// One region and its copy.
#[repr(C)]
struct Pair {
    region: *mut u8,
    copy: *mut u8,
    len: usize,
}

/// The copies for one fork: a list in ordinary memory, which the child inherits as it is. It holds addresses only.
#[derive(Clone, Copy)]
struct Copies {
    pairs: *mut Pair,
    count: usize,
    /// Bytes of the list.
    len: usize,
}

impl Copies {
    const NONE: Self = Self {
        pairs: null_mut(),
        count: 0,
        len: 0,
    };

    /// New regions, untouched, for all that `arena` has.
    fn reserve(arena: &Arena) -> Result<Self, Refusal> {
        let len = (arena.regions().count() + 1) * size_of::<Pair>();
        let len = len.next_multiple_of(PAGE);
        let list = map::scratch(len);
        if list.is_null() {
            return Err(Refusal::of("mmap", len, libc::ENOMEM));
        }
        let pairs = list.cast();
        let mut copies = Self { pairs, count: 0, len };
        for (region, len) in arena.regions() {
            match map::inherited(len) {
                Ok(copy) => {
                    // SAFETY: the list has room for as many pairs as there are regions, and the caller's lock keeps their number.
                    unsafe { copies.pairs.add(copies.count).write(Pair { region, copy, len }) };
                    copies.count += 1;
                }
                Err(refused) => {
                    // SAFETY: nobody has seen them.
                    unsafe { copies.give_back() };
                    return Err(refused);
                }
            }
        }
        Ok(copies)
    }

    fn pairs(&self) -> &[Pair] {
        if self.pairs.is_null() {
            return &[];
        }
        // SAFETY: `count` pairs were written there, and the list is not written again.
        unsafe { std::slice::from_raw_parts(self.pairs, self.count) }
    }

    /// Whether these are copies of just what `arena` has now.
    fn fit(&self, arena: &Arena) -> bool {
        let own = self.pairs().iter().map(|pair| (pair.region, pair.len));
        !self.pairs.is_null() && own.eq(arena.regions())
    }

    /// Gives copies and list back.
    ///
    /// # Safety
    /// Nobody uses them any more.
    unsafe fn give_back(self) {
        for pair in self.pairs() {
            // SAFETY: a region of `inherited`, given up here.
            unsafe { map::give_back(pair.copy, pair.len) };
        }
        // SAFETY: as above.
        unsafe { self.give_back_list() };
    }

    /// Gives the list back, in the child: there the copies are the heap.
    ///
    /// # Safety
    /// Nobody uses it any more.
    unsafe fn give_back_list(self) {
        if !self.pairs.is_null() {
            // SAFETY: the whole of what `reserve` mapped.
            unsafe { map::give_back(self.pairs.cast(), self.len) };
        }
    }

    /// Whether `address` lies in one of the regions.
    fn hold(&self, address: *const u8) -> bool {
        let inside = |pair: &Pair| (address as usize).wrapping_sub(pair.region as usize) < pair.len;
        self.pairs().iter().any(inside)
    }

    /// Writes into the copies what the regions hold.
    fn fill(&self) {
        for pair in self.pairs() {
            let mut seen = [0u8; TOGETHER];
            for first in (0..pair.len).step_by(TOGETHER * PAGE) {
                let pages = ((pair.len - first) / PAGE).min(TOGETHER);
                map::touched(pair.region.wrapping_add(first), &mut seen[..pages]);
                for (index, _) in seen[..pages].iter().enumerate().filter(|(_, seen)| **seen & 1 != 0) {
                    let at = first + index * PAGE;
                    // SAFETY: one page of the region and of its copy. Other threads may write to theirs meanwhile, as
                    // they may while the kernel copies for fork(2): what is torn is theirs, and the child has not got them.
                    unsafe { copy_page(pair.region.wrapping_add(at), pair.copy.wrapping_add(at)) };
                }
            }
        }
    }

    /// In the child: puts every copy in the place of its region, or ends the process.
    fn adopt(&self) {
        for pair in self.pairs() {
            // SAFETY: the parent only gives its mapping back, and what was at the region's place was not inherited.
            if !unsafe { map::adopt(pair.copy, pair.region, pair.len) } {
                end_child();
            }
        }
    }
}

/// Copies a page, unless that would only write zeroes over the zeroes of a new page, which costs as much as any.
///
/// # Safety
/// A readable and a writable page.
unsafe fn copy_page(from: *const u8, to: *mut u8) {
    static ZEROES: [u8; PAGE] = [0; PAGE];
    // SAFETY: the caller's promise. The C library's functions, because the source may change under them.
    unsafe {
        if libc::memcmp(from.cast(), ZEROES.as_ptr().cast(), PAGE) != 0 {
            libc::memcpy(to.cast(), from.cast(), PAGE);
        }
    }
}

/// What the thread that forks keeps from before to after.
struct Fork {
    /// Room for the next fork's copies.
    reserved: Copies,
    copies: Copies,
    trap: Option<Trap>,
    lock: Option<MutexGuard<'static, Arena>>,
}

/// The state of the fork that is under way.
struct UnderWay(UnsafeCell<Fork>);

// SAFETY: only who holds the heap's lock touches it; from `before` to the end of a fork that is the thread that forks. The
// child's only thread is a copy of that one.
unsafe impl Sync for UnderWay {}

static UNDER_WAY: UnderWay = UnderWay(UnsafeCell::new(Fork {
    reserved: Copies::NONE,
    copies: Copies::NONE,
    trap: None,
    lock: None,
}));

/// The thread whose fork has no copies.
static FAILED: AtomicI32 = AtomicI32::new(0);

/// Makes sure, ahead of a fork, that there is room for copies of all that the heap has now. Touches no memory yet.
///
/// # Errors
/// There is none: the fork must fail.
pub fn reserve() -> Result<(), Refusal> {
    let lock = arena::lock();
    let copies = Copies::reserve(&lock)?;
    // SAFETY: the lock is held, and what another thread may have reserved is nobody's yet.
    unsafe {
        let fork = &mut *UNDER_WAY.0.get();
        std::mem::replace(&mut fork.reserved, copies).give_back();
    }
    Ok(())
}

/// Right before a fork, when nobody in this thread will use the heap any more: copies it. It is locked from here to
/// [`in_parent`] or [`in_child`]. Without room for the copies the child will end at once, and [`failed`] says so in the parent.
pub fn before() {
    let lock = arena::lock();
    // SAFETY: the lock is held.
    let fork = unsafe { &mut *UNDER_WAY.0.get() };
    let reserved = std::mem::replace(&mut fork.reserved, Copies::NONE);
    let copies = if reserved.fit(&lock) {
        Ok(reserved)
    } else {
        // SAFETY: nobody has seen them.
        unsafe { reserved.give_back() };
        Copies::reserve(&lock)
    };
    fork.lock = Some(lock);
    match copies {
        // A local variable in the heap: the child would begin on a stack that is not there.
        Ok(copies) if !copies.hold((&raw const copies).cast()) => {
            copies.fill();
            fork.copies = copies;
            fork.trap = Some(Trap::set(copies));
        }
        refused => {
            match refused {
                // SAFETY: nobody has seen them.
                Ok(copies) => unsafe { copies.give_back() },
                Err(refused) => refusal::say_once(format_args!("rempart: this program cannot fork: {refused}\n")),
            }
            FAILED.store(thread(), Ordering::Relaxed);
        }
    }
}

/// In the parent after the fork, or where it was refused.
pub fn in_parent() {
    // SAFETY: `before` in this thread took the lock.
    let fork = unsafe { &mut *UNDER_WAY.0.get() };
    if let Some(trap) = fork.trap.take() {
        trap.clear();
    }
    // SAFETY: the parent has no use for them; the child has mappings of its own.
    unsafe { std::mem::replace(&mut fork.copies, Copies::NONE).give_back() };
    drop(fork.lock.take());
}

/// In the child: its heap is whole when this returns. Ends a child for which there was no room.
pub fn in_child() {
    // SAFETY: this thread is the copy of the one that took the lock.
    let fork = unsafe { &mut *UNDER_WAY.0.get() };
    let Some(trap) = fork.trap.take() else { end_child() };
    let copies = std::mem::replace(&mut fork.copies, Copies::NONE);
    if !PAIRS.swap(null_mut(), Ordering::Relaxed).is_null() {
        copies.adopt();
    }
    trap.clear();
    // SAFETY: the list is this process's own; the handler that reads it is gone.
    unsafe { copies.give_back_list() };
    drop(fork.lock.take());
}

/// Whether the last fork of this thread made a child without a heap, which ended by itself.
pub fn failed() -> bool {
    FAILED
        .compare_exchange(thread(), 0, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// This thread's number; no other living one has it.
fn thread() -> i32 {
    // SAFETY: takes nothing and cannot fail (gettid(2)).
    unsafe { libc::gettid() }
}

fn end_child() -> ! {
    // SAFETY: ends the process without running anything of it, as its heap is not there.
    unsafe { libc::_exit(EX_OSERR) }
}

/// The list for the handler; null where there is nothing to adopt.
static PAIRS: AtomicPtr<Pair> = AtomicPtr::new(null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What SIGSEGV did before.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written under the heap's lock while our handler is not installed; the handler only reads.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::zeroed()));

/// Our handler of SIGSEGV, for the moment between the fork and [`in_child`].
struct Trap {
    mask: libc::sigset_t,
}

impl Trap {
    fn set(copies: Copies) -> Self {
        COUNT.store(copies.count, Ordering::Relaxed);
        PAIRS.store(copies.pairs, Ordering::Release);
        // SAFETY: zeroes are valid for both structures (sigaction(2), sigsetops(3)); every pointer is to one of them.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = on_fault as *const () as usize;
            // Not on the alternate stack, which may lie in the heap.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            libc::sigaction(libc::SIGSEGV, &raw const action, BEFORE.0.get().cast());
            let mut fault: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            let mut mask = fault;
            libc::sigaddset(&raw mut fault, libc::SIGSEGV);
            // Where a thread blocks it, the kernel ends the process instead.
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const fault, &raw mut mask);
            Self { mask }
        }
    }

    fn clear(self) {
        PAIRS.store(null_mut(), Ordering::Relaxed);
        // SAFETY: what `set` found is put back.
        unsafe {
            libc::sigaction(libc::SIGSEGV, BEFORE.0.get().cast(), null_mut());
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, null_mut());
        }
    }
}

/// The first touch of a heap that is not there yet: brings it. Any other fault is the program's own.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    /// There is no mapping at the address (siginfo.h). In the parent, where the heap is mapped, it never is one of the heap's.
    const SEGV_MAPERR: c_int = 1;
    // SAFETY: the kernel gives a siginfo_t, in which SIGSEGV has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    let copies = Copies {
        pairs: PAIRS.load(Ordering::Acquire),
        count: COUNT.load(Ordering::Relaxed),
        len: 0,
    };
    if code == SEGV_MAPERR && copies.hold(address.cast()) {
        PAIRS.store(null_mut(), Ordering::Relaxed);
        copies.adopt();
        return;
    }
    // SAFETY: written before this handler was installed.
    let before = unsafe { BEFORE.0.get().cast::<libc::sigaction>().read() };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: restores the default; the fault comes again and ends the process, as it would have.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: the program's handler, of the type that its flags say (sigaction(2)).
        handler => unsafe {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(handler)(
                    signal, info, context,
                );
            } else {
                std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal);
            }
        },
    }
}
