//! The walk through x86-64 page tables (Intel SDM volume 3, 5.5), and the kernel's direct map in them.
//!
//! Linux maps all memory once more at a constant distance, the direct map, and takes a page out of it that memfd_secret(2) hands out
//! (mm/secretmem.c, `set_direct_map_invalid_noflush`).

use std::collections::{BTreeMap, HashSet};

use super::{Frame, Memory, PAGE};

const PRESENT: u64 = 1;
const USER: u64 = 1 << 2;
/// Accessed and dirty: the processor's own notes.
const NOTES: u64 = 0b11 << 5;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;
/// Where the kernel's own image is mapped (Documentation/arch/x86/x86_64/mm.rst): parts of it were freed and are anybody's now.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// One translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Virtual address.
    pub at: u64,
    /// First frame.
    pub frame: Frame,
    /// Number of frames.
    pub frames: u64,
}

/// The upper half of every address space.
pub struct KernelMap {
    root: Frame,
    levels: u32,
    direct: Vec<bool>,
    elsewhere: HashSet<Frame>,
}

impl KernelMap {
    /// Walks it. None where no direct map is found, which would make every page look secret.
    pub fn read(memory: &Memory, root: Frame, levels: u32) -> Option<Self> {
        let leaves = walk(memory, root, levels, Half::Kernel);
        let mut distances: BTreeMap<u64, u64> = BTreeMap::new();
        for leaf in &leaves {
            *distances.entry(leaf.distance()).or_default() += leaf.frames;
        }
        let (direct_map, _) = distances.into_iter().max_by_key(|(_, frames)| *frames)?;
        let mut direct = vec![false; usize::try_from(memory.frames()).ok()?];
        let mut elsewhere = HashSet::new();
        for leaf in &leaves {
            for frame in leaf.frame.0..leaf.frame.0.saturating_add(leaf.frames).min(memory.frames()) {
                if leaf.distance() == direct_map {
                    direct[usize::try_from(frame).ok()?] = true;
                } else if leaf.at < IMAGE {
                    elsewhere.insert(Frame(frame));
                }
            }
        }
        let mapped = direct.iter().filter(|mapped| **mapped).count();
        (mapped > direct.len() / 2).then_some(Self {
            root,
            levels,
            direct,
            elsewhere,
        })
    }

    /// How many frames are in the direct map.
    pub fn direct_frames(&self) -> usize {
        self.direct.iter().filter(|mapped| **mapped).count()
    }

    /// Is the frame in the direct map?
    pub fn direct(&self, frame: Frame) -> bool {
        let index = usize::try_from(frame.0).ok();
        index.and_then(|index| self.direct.get(index)).copied().unwrap_or(false)
    }

    /// Does the kernel map the frame at another place (vmalloc)?
    pub fn elsewhere(&self, frame: Frame) -> bool {
        self.elsewhere.contains(&frame)
    }

    /// The user halves of all address spaces: each topmost table has the kernel's half in common with this one.
    pub fn address_spaces(&self, memory: &Memory) -> Vec<Vec<Leaf>> {
        let upper = |page: &[u8]| -> Vec<u64> { entries(page).skip(ENTRIES / 2).map(|entry| entry & !NOTES).collect() };
        let Some(own) = memory.page(self.root) else {
            return Vec::new();
        };
        let kernel = upper(own);
        // Compared before all is decoded: there are many frames.
        let first = kernel.iter().position(|entry| *entry != 0).unwrap_or(0);
        let candidate = |page: &[u8]| entries(page).nth(ENTRIES / 2 + first).map(|entry| entry & !NOTES);
        memory
            .pages()
            .filter(|(_, page)| candidate(page) == kernel.get(first).copied() && upper(page) == kernel)
            .map(|(frame, _)| walk(memory, frame, self.levels, Half::User))
            .filter(|leaves| !leaves.is_empty())
            .collect()
    }
}

impl Leaf {
    fn distance(&self) -> u64 {
        self.at.wrapping_sub(self.frame.0.wrapping_mul(PAGE as u64))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    User,
    Kernel,
}

/// All translations of a half, by rising address. A table that stands in several places is taken once: Linux repeats espfix's millions of
/// times.
fn walk(memory: &Memory, root: Frame, levels: u32, half: Half) -> Vec<Leaf> {
    let mut walk = Walk {
        memory,
        half,
        seen: HashSet::new(),
        leaves: Vec::new(),
    };
    let base = if half == Half::Kernel {
        !0 << (12 + 9 * levels)
    } else {
        0
    };
    walk.table(root, levels, base, true);
    walk.leaves
}

struct Walk<'a> {
    memory: &'a Memory,
    half: Half,
    seen: HashSet<Frame>,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    fn table(&mut self, table: Frame, level: u32, base: u64, top: bool) {
        let Some(page) = self.memory.page(table) else { return };
        if !self.seen.insert(table) {
            return;
        }
        let shift = 12 + 9 * (level - 1);
        for (index, entry) in entries(page).enumerate() {
            let upper = index >= ENTRIES / 2;
            let other_half = top && upper != (self.half == Half::Kernel);
            let not_the_users = self.half == Half::User && entry & USER == 0;
            if other_half || not_the_users || entry & PRESENT == 0 {
                continue;
            }
            let at = base | (index as u64) << shift;
            let large = (level == 2 || level == 3) && entry & LARGE != 0;
            if level > 1 && !large {
                self.table(Frame((entry & ADDRESS) >> 12), level - 1, at, false);
            } else {
                let frames = 1 << (shift - 12);
                let frame = Frame(((entry & ADDRESS) >> 12) & !(frames - 1));
                self.leaves.push(Leaf { at, frame, frames });
            }
        }
    }
}

fn entries(page: &[u8]) -> impl Iterator<Item = u64> {
    page.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tests' direct map begins, with four levels.
    const DIRECT: u64 = 0xffff_8880_0000_0000;

    /// Eight frames: tables in 0 to 6, of which the direct map lacks the frame 5; frame 1 is a process's topmost table, which maps 5 and
    /// the kernel's own frame 6 at 0x7000_0000_0000.
    fn machine() -> Memory {
        let mut memory = Memory(vec![0; 8 * PAGE]);
        let mut set = |table: u64, index: u64, entry: u64| {
            let at = usize::try_from(table * 4096 + index * 8).expect("small");
            memory.0[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        };
        let index = |level: u64, at: u64| (at >> (12 + 9 * (level - 1))) & 511;
        for root in [0, 1] {
            set(
                root,
                index(4, DIRECT),
                2 << 12 | PRESENT | if root == 1 { NOTES } else { 0 },
            );
        }
        set(2, 0, 3 << 12 | PRESENT);
        set(3, 0, 4 << 12 | PRESENT);
        for frame in (0..8).filter(|frame| *frame != 5) {
            set(4, frame, frame << 12 | PRESENT);
        }
        set(1, index(4, 0x7000_0000_0000), 6 << 12 | PRESENT | USER);
        // One table serves as three levels, to be found by one path only.
        set(6, 0, 7 << 12 | PRESENT | USER);
        set(7, 0, 5 << 12 | PRESENT | USER);
        set(5, 0, 5 << 12 | PRESENT | USER);
        set(5, 1, 6 << 12 | PRESENT);
        memory
    }

    #[test]
    fn a_frame_that_the_direct_map_lacks_is_told() {
        let memory = machine();
        let map = KernelMap::read(&memory, Frame(0), 4).expect("a direct map");
        let lacking: Vec<_> = (0..9).filter(|frame| !map.direct(Frame(*frame))).collect();
        assert_eq!(lacking, [5, 8]);
        assert_eq!(map.direct_frames(), 7);
        assert!(!map.elsewhere(Frame(3)));
    }

    #[test]
    fn without_a_direct_map_nothing_is_said() {
        assert!(KernelMap::read(&Memory(vec![0; 8 * PAGE]), Frame(0), 4).is_none());
        assert!(KernelMap::read(&machine(), Frame(77), 4).is_none());
    }

    #[test]
    fn address_spaces_are_found_by_the_half_that_they_share() {
        let memory = machine();
        let map = KernelMap::read(&memory, Frame(0), 4).expect("a direct map");
        // The kernel's own has no user half; of the process's, what the user may not touch is left out.
        let leaf = Leaf {
            at: 0x7000_0000_0000,
            frame: Frame(5),
            frames: 1,
        };
        assert_eq!(map.address_spaces(&memory), [[leaf]]);
    }

    #[test]
    fn large_pages_and_canonical_addresses() {
        let mut memory = Memory(vec![0; 3 * PAGE]);
        let at = PAGE - 8;
        memory.0[at..at + 8].copy_from_slice(&(1u64 << 12 | PRESENT).to_le_bytes());
        // Bit 12 of a large entry is a memory type, not an address.
        memory.0[PAGE..PAGE + 8].copy_from_slice(&(1u64 << 30 | 1 << 12 | LARGE | PRESENT).to_le_bytes());
        let leaf = walk(&memory, Frame(0), 4, Half::Kernel);
        assert_eq!(
            leaf,
            [Leaf {
                at: 0xffff_ff80_0000_0000,
                frame: Frame(1 << 18),
                frames: 1 << 18
            }]
        );
    }
}
