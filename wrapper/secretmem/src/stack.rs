//! Threads on secret stacks.
//!
//! A thread is born on the stack that the C library makes for it, with the thread's control block at its top, which must stay
//! where it is: the kernel wakes whoever joins the thread through a word in it, by a way that secret memory does not have.
//! So the stack is not replaced. The thread leaves it: its first function switches to a secret stack, runs there all that
//! the thread was made for, and comes back only to end. What stays behind are two frames without a secret.
//!
//! `whole_process!` exports `pthread_create`, so this holds for every thread, whoever makes it. Must never let a thread run
//! what it was made for on its first stack, unless [`crate::refusal`] allows ordinary memory.

use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit, transmute};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::map::{self, Place};

/// For threads whose maker says nothing, bytes: what Rust's own threads have.
const USUAL: usize = 2 << 20;
/// Most that a maker may ask for, bytes: all of it counts against RLIMIT_MEMLOCK.
const MOST: usize = 16 << 20;

type Body = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Body, *mut c_void) -> c_int;

/// A stack with a page below it that nobody may touch.
struct Stack {
    guard: *mut u8,
    len: usize,
}

impl Stack {
    /// `None` when there is no address space or memory; does not return when secret memory is refused.
    fn new(len: usize) -> Option<Self> {
        let len = map::pages(len)?;
        let guard = map::reserve(map::PAGE + len);
        if guard.is_null() {
            return None;
        }
        let stack = Self { guard, len };
        let bottom = guard.wrapping_add(map::PAGE);
        // On failure `stack` gives the reserved range back.
        (!map::obtain(Place::Reserved(bottom), len).is_null()).then_some(stack)
    }

    fn top(&self) -> *mut u8 {
        self.guard.wrapping_add(map::PAGE + self.len)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever ran on it has returned: see the callers of `call_on`.
        unsafe { map::give_back(self.guard, map::PAGE + self.len) };
    }
}

/// Calls `body(argument)` with the stack pointer at `top`, and returns to this stack with it.
///
/// The frame pointer, kept on the old stack, is the way back, for `ret` and for an unwinder alike.
///
/// # Safety
/// Below `top`, a multiple of 16, lies a stack that is large enough and that nobody else uses.
#[unsafe(naked)]
unsafe extern "C-unwind" fn call_on(
    argument: *mut c_void,
    body: unsafe extern "C-unwind" fn(*mut c_void),
    top: *mut u8,
) {
    // Arguments and saved registers: System V ABI, AMD64 supplement, 3.2. `call` keeps a shadow stack in step.
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// Runs `work` on a secret stack of `len` bytes: for the main thread, whose first stack the kernel made.
///
/// # Panics
/// With the panic of `work`, and when the machine has no memory at all. Does not return when secret memory is refused.
pub fn on_secret_stack<R>(len: usize, work: impl FnOnce() -> R) -> R {
    struct Call<F, R> {
        work: ManuallyDrop<F>,
        result: MaybeUninit<R>,
    }
    unsafe extern "C-unwind" fn body<F: FnOnce() -> R, R>(call: *mut c_void) {
        // SAFETY: `call` is the Call below, which outlives this function; `work` is taken once.
        unsafe {
            let call = &mut *call.cast::<Call<F, R>>();
            let work = ManuallyDrop::take(&mut call.work);
            call.result.write(work());
        }
    }
    fn body_of<F: FnOnce() -> R, R>(_: &Call<F, R>) -> unsafe extern "C-unwind" fn(*mut c_void) {
        body::<F, R>
    }
    let stack = Stack::new(len).expect("address space for one stack");
    let mut call = Call {
        work: ManuallyDrop::new(work),
        result: MaybeUninit::uninit(),
    };
    let body = body_of(&call);
    // SAFETY: the stack is new and only used here. `body` returns before `stack` and `call` go; if it panics instead, the
    // unwinder passes this frame, which gives them up then, when nothing runs on that stack any more.
    unsafe {
        call_on((&raw mut call).cast(), body, stack.top());
        // `body` returned, so it has written the result.
        call.result.assume_init()
    }
}

/// What a new thread finds.
struct Birth {
    stack: Option<Stack>,
    body: Body,
    argument: *mut c_void,
    result: *mut c_void,
}

/// pthread_create(3), for a thread that leaves its first stack at once.
///
/// # Safety
/// As the manual says.
pub unsafe fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    body: Body,
    argument: *mut c_void,
) -> c_int {
    let mut len = 0;
    // SAFETY: the attributes, where there are any, are the caller's valid ones.
    if attributes.is_null() || unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut len) } != 0 {
        len = USUAL;
    }
    let (Some(create), Some(stack)) = (next(), Stack::new(len.min(MOST))) else {
        return libc::EAGAIN;
    };
    let birth = Box::into_raw(Box::new(Birth {
        stack: Some(stack),
        body,
        argument,
        result: std::ptr::null_mut(),
    }));
    // SAFETY: the C library's own function, called as we were; `birth` belongs to the new thread if there is one.
    let outcome = unsafe { create(thread, attributes, begin, birth.cast()) };
    if outcome != 0 {
        // SAFETY: no thread was made, so nobody else has it.
        drop(unsafe { Box::from_raw(birth) });
    }
    outcome
}

/// The first function of every thread, on its first stack.
extern "C" fn begin(birth: *mut c_void) -> *mut c_void {
    unsafe extern "C-unwind" fn live(birth: *mut c_void) {
        // SAFETY: `begin` hands over its Birth, which outlives this function.
        let birth = unsafe { &mut *birth.cast::<Birth>() };
        birth.result = (birth.body)(birth.argument);
    }
    // SAFETY: `pthread_create` made it with Box::into_raw, for this thread.
    let mut birth = unsafe { Box::from_raw(birth.cast::<Birth>()) };
    if let Some(stack) = birth.stack.take() {
        // SAFETY: the stack is this thread's alone. It goes after `live` has returned from it.
        unsafe { call_on((&raw mut *birth).cast(), live, stack.top()) };
    }
    birth.result
}

/// The C library's `pthread_create`, the next one behind ours.
fn next() -> Option<Create> {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let mut found = NEXT.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: a NUL-terminated name; RTLD_NEXT looks behind the program (dlsym(3)).
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
        NEXT.store(found, Ordering::Relaxed);
    }
    // SAFETY: the symbol of that name is a function of that type, or null, which is `None`.
    unsafe { transmute::<*mut c_void, Option<Create>>(found) }
}
