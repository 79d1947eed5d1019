//! Memory that the kernel itself cannot read for anybody else: memfd_secret(2) regions, and their way to another
//! process.
//!
//! This crate holds the only `mmap` of the tree. It must never hand out ordinary memory under the name of secret
//! memory: when the kernel refuses, the caller gets an [`Error`] that says what an operator does next.
//! Follows memfd_secret(2), mmap(2), madvise(2), unix(7).

/// One region.
mod area;
/// A line and a descriptor over a stream socket.
mod transfer;

pub use area::{Area, Error, MAX_AREA_LEN};
pub use transfer::{TransferError, receive_line, send_line};
