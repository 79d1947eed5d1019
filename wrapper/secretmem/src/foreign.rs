//! The heap of a program that is not ours, for the library that is loaded into it (wrapper/heap).
//!
//! Such a program does not know that its memory may be refused: it gets null as from any malloc(3), and one line says why. It
//! may fork. Must never give it ordinary memory.

pub use crate::arena::contains;
pub use crate::fork::{before, failed, in_child, in_parent, reserve};
pub use crate::refusal::say_once as say;
use crate::{arena, refusal};

/// Says that this process's program is not ours, before its first block.
pub fn begin() {
    refusal::leave_to_the_program();
}

/// Lets its heap have at most `bytes` from here on.
pub fn bound(bytes: usize) {
    arena::bound(bytes);
}
