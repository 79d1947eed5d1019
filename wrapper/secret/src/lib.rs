//! Secret values in Rust: moved in, never copied by accident, wiped on drop.
//!
//! These types must never gain `Clone`, `Serialize` or `Display`. They do not choose where the bytes lie: a process
//! whose heap lies in secret memory (rempart-secretmem) gets that for free.

#![forbid(unsafe_code)]

mod value;

pub use value::{Secret, SecretBytes, SecretString};
