//! The documentation as a program reads it: pages with their code, and the command lines in that code.
//!
//! Never changes a page. What is compared with what stands in tests/book; the quick start is played by the program.

#![forbid(unsafe_code)]

/// Command lines of ours, as pages show them.
mod command;
/// A page, its code and its links.
mod page;

pub use command::{Invocation, invocations};
pub use page::{Code, Link, Page};
