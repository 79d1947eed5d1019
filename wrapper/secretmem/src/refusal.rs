//! What it means for a whole process that the kernel refuses secret memory.
//!
//! The heap is used before `main`, so before anybody has read what the operator allows. Until [`settle`] a refusal is noted
//! and ordinary memory taken, with no secret in the process yet; `settle` then ends that or allows it by name. After it
//! a refusal ends the process at once. Must never be silent, and never allocate: it runs inside the allocator.

use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Exit code of a process that is refused memory while it runs: EX_OSERR of sysexits.h.
const EX_OSERR: libc::c_int = 71;

/// What the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    call: &'static str,
    len: usize,
    errno: i32,
}

impl Refusal {
    /// A failed call, by the thread's `errno`.
    pub(crate) fn last(call: &'static str, len: usize) -> Self {
        Self::of(call, len, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    pub(crate) fn of(call: &'static str, len: usize, errno: i32) -> Self {
        Self { call, len, errno }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            libc::ENOSYS => f.write_str(
                "the kernel refuses memfd_secret to this process's heap and stacks: it needs Linux 5.14 or later, and before 6.5 the kernel argument secretmem.enable=1",
            ),
            libc::EPERM => f.write_str(
                "memfd_secret is forbidden to this process's heap and stacks: allow the call in SystemCallFilter= of its unit (or in the container's seccomp profile)",
            ),
            libc::EAGAIN => write!(
                f,
                "the kernel refuses {} more bytes of secret memory for this process's heap and stacks: raise LimitMEMLOCK= of its unit",
                self.len
            ),
            errno => write!(
                f,
                "the kernel refuses {} bytes of secret memory for this process's heap and stacks: {} failed with errno {errno}; free memory or raise MemoryMax= of its unit",
                self.len, self.call
            ),
        }
    }
}

/// What this process's heap and stacks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Memory {
    /// Secret memory, all of it.
    Secret,
    /// At least some of it is ordinary, for this reason: the named degraded mode `memory-ordinary`.
    Ordinary(Refusal),
}

/// What a process does without secret memory: the operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordinary {
    /// It ends.
    Refuse,
    /// It goes on in ordinary memory, and says so.
    Allow,
}

/// What to do about a refusal.
pub(crate) enum Verdict {
    /// The limit was raised: try again.
    Again,
    /// Take ordinary memory.
    Ordinary,
    /// There is none.
    Nothing,
}

const UNSETTLED: u8 = 0;
const REFUSE: u8 = 1;
const ALLOW: u8 = 2;
const FOREIGN: u8 = 3;

static SETTLED: AtomicU8 = AtomicU8::new(UNSETTLED);
static FIRST: OnceLock<Refusal> = OnceLock::new();
/// The soft RLIMIT_MEMLOCK before it was raised.
static SOFT_LIMIT: OnceLock<libc::rlim_t> = OnceLock::new();

/// What this process's heap and stacks are now.
pub fn memory() -> Memory {
    FIRST.get().map_or(Memory::Secret, |refusal| Memory::Ordinary(*refusal))
}

/// Settles what a process does without secret memory. To be called once, before the first secret is in the process.
///
/// # Errors
/// The refusal that made some of it ordinary already, where that is not allowed: the process has to end.
pub fn settle(ordinary: Ordinary) -> Result<(), Refusal> {
    SETTLED.store(
        if ordinary == Ordinary::Allow { ALLOW } else { REFUSE },
        Ordering::SeqCst,
    );
    match (memory(), ordinary) {
        (Memory::Ordinary(refusal), Ordinary::Refuse) => Err(refusal),
        (Memory::Ordinary(refusal), Ordinary::Allow) => {
            allowed(refusal);
            Ok(())
        }
        (Memory::Secret, _) => Ok(()),
    }
}

/// The process's program is not ours: it is refused as malloc(3) refuses, and never given ordinary memory instead.
pub(crate) fn leave_to_the_program() {
    STDERR.store(stderr_socket(), Ordering::SeqCst);
    SETTLED.store(FOREIGN, Ordering::SeqCst);
}

/// The socket that stderr was when a program which is not ours began, as by [`stderr_socket`].
static STDERR: AtomicU64 = AtomicU64::new(0);

/// The number of the socket that stderr is, such as the journal's; 0 for anything else.
fn stderr_socket() -> u64 {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fills the structure, or leaves its zeroes, which are valid too (fstat(2)).
    let status = unsafe {
        libc::fstat(libc::STDERR_FILENO, status.as_mut_ptr());
        status.assume_init()
    };
    if status.st_mode & libc::S_IFMT == libc::S_IFSOCK {
        status.st_ino
    } else {
        0
    }
}

/// Says once that a program which is not ours has used all that its unit allows.
pub(crate) fn full(bound: usize) {
    if SETTLED.load(Ordering::SeqCst) == FOREIGN {
        say_once(format_args!(
            "rempart: this program has used all of its secret heap, {bound} bytes, and is refused more: raise MemorySize= in [X-Rempart] of its unit\n"
        ));
    }
}

/// Judges a refusal. Does not return when the process must end.
pub(crate) fn judge(refusal: Refusal) -> Verdict {
    if SETTLED.load(Ordering::SeqCst) == FOREIGN {
        say_once(format_args!("rempart: this program's memory is refused: {refusal}\n"));
        return Verdict::Nothing;
    }
    if refusal.errno == libc::EAGAIN && raise_lock_limit() {
        return Verdict::Again;
    }
    settle_for_ordinary(refusal);
    Verdict::Ordinary
}

/// Notes that ordinary memory is taken, or ends the process.
pub(crate) fn settle_for_ordinary(refusal: Refusal) {
    match SETTLED.load(Ordering::SeqCst) {
        REFUSE => end(refusal),
        ALLOW if FIRST.set(refusal).is_ok() => allowed(refusal),
        _ => {
            let _ = FIRST.set(refusal);
        }
    }
}

/// Lifts the soft RLIMIT_MEMLOCK to the hard one: outside units they may differ. False when there is nothing to lift.
fn raise_lock_limit() -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for one rlimit, which the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 || limit.rlim_cur == limit.rlim_max {
        return false;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one rlimit; a process may raise its own soft limit to the hard one (setrlimit(2)).
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        return false;
    }
    SOFT_LIMIT.set(before).is_ok()
}

/// Puts the soft RLIMIT_MEMLOCK back, if a refusal had it raised: for a program that is about to become another one.
pub fn restore_lock_limit() {
    let Some(before) = SOFT_LIMIT.get() else { return };
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: as in raise_lock_limit; lowering a soft limit is always allowed, and what is mapped stays mapped.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) == 0 {
            limit.rlim_cur = *before;
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
        }
    }
}

fn allowed(refusal: Refusal) {
    say(format_args!(
        "rempart: memory-ordinary: runs on in ordinary memory, as memory.degraded = \"allow\" says: {refusal}\n"
    ));
}

fn end(refusal: Refusal) -> ! {
    say(format_args!("rempart: ended: {refusal}\n"));
    // SAFETY: ends the process without running anything of it: the heap's lock is held here.
    unsafe { libc::_exit(EX_OSERR) }
}

/// One line of this kind in the life of a process: a program that is refused memory often asks again.
pub fn say_once(line: fmt::Arguments<'_>) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // A daemon that closed stderr may have a connection at its number: nothing of ours belongs there.
    let now = stderr_socket();
    if (now == 0 || now == STDERR.load(Ordering::Relaxed)) && !SAID.swap(true, Ordering::Relaxed) {
        say(line);
    }
}

/// One line to stderr, built on the stack: `eprintln!` may allocate.
fn say(line: fmt::Arguments<'_>) {
    let mut text = Line {
        bytes: [0; 512],
        len: 0,
    };
    let _ = text.write_fmt(line);
    // SAFETY: the first `len` bytes of the array, which lives until the call returns.
    unsafe { libc::write(libc::STDERR_FILENO, text.bytes.as_ptr().cast(), text.len) };
}

struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}
