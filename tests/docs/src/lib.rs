//! The documentation as a program reads it: pages with their code, the command lines in that code, and the steps of the quick start.
//!
//! Never changes a page. What is compared with what stands in tests/book; the quick start is played by the program.

#![forbid(unsafe_code)]

/// Command lines of ours, as pages show them.
mod command;
/// A page, its code and its links.
mod page;
/// What a page has a reader do.
mod script;

pub use command::{Invocation, invocations};
pub use page::{Code, Link, Page};
pub use script::{Section, Step, missing};
