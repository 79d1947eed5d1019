//! Guest memory from outside: what lies where, in what kind of page, and whose it is.
//!
//! Only bytes come in: taking them from a machine is [`crate::node`]'s, asking the guest's kernel about a frame the scene's. Nothing here
//! may print a value that it found.

mod kind;
mod processor;
mod program;
mod search;
mod tables;

pub use kind::{Flags, Kind};
pub use processor::Processor;
pub use program::{Program, programs};
pub use search::{Found, Needle, find};
pub use tables::{KernelMap, Leaf};

/// Bytes of a page frame.
pub const PAGE: usize = 4096;

/// Number of a physical page frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

/// Physical memory from address 0 on.
pub struct Memory(pub Vec<u8>);

impl Memory {
    /// How many frames it has.
    pub fn frames(&self) -> u64 {
        (self.0.len() / PAGE) as u64
    }

    /// Whole frames, in order.
    pub fn pages(&self) -> impl Iterator<Item = (Frame, &[u8])> {
        (0..).map(Frame).zip(self.0.chunks_exact(PAGE))
    }

    /// One frame; none beyond the end.
    pub fn page(&self, frame: Frame) -> Option<&[u8]> {
        let from = usize::try_from(frame.0).ok()?.checked_mul(PAGE)?;
        self.0.get(from..from.checked_add(PAGE)?)
    }
}
