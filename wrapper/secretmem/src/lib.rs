//! Memory that the kernel itself cannot read for anybody else: memfd_secret(2) regions, their way to another process, and
//! whole processes in it.
//!
//! This crate holds the only `mmap` of the tree. It must never hand out ordinary memory under the name of secret
//! memory: when the kernel refuses, the caller gets an [`Error`] that says what an operator does next. A whole process
//! ([`whole_process!`]) has no caller to tell: it ends with such a line, unless its operator allows what [`Memory`] then names.
//! Follows memfd_secret(2), mmap(2), madvise(2), unix(7).

/// One region.
mod area;
/// The process's blocks: constant time, over many secret regions.
mod arena;
/// The C library's names for the heap.
#[doc(hidden)]
pub mod c;
/// The heap of a program that is not ours.
#[doc(hidden)]
pub mod foreign;
/// A child's own heap.
mod fork;
/// Blocks as allocators know them, wiped when given back.
mod heap;
/// Anonymous regions for heap and stacks.
mod map;
/// What a refusal of the kernel means for the process.
mod refusal;
/// Stacks.
mod stack;
/// A line and a descriptor over a stream socket.
mod transfer;
/// What a program writes to be in secret memory whole.
mod whole;

pub use area::{Area, Error, MAX_AREA_LEN};
pub use heap::Heap;
pub use refusal::{Memory, Ordinary, Refusal, memory, restore_lock_limit, settle};
pub use stack::on_secret_stack;
pub use transfer::{TransferError, receive_line, receive_part, send_line};
