//! Kinds of pages, and the kernel's word for them: include/uapi/linux/kernel-page-flags.h.

const LRU: u32 = 5;
const SLAB: u32 = 7;
const BUDDY: u32 = 10;
const MMAP: u32 = 11;
const ANON: u32 = 12;
const SWAPBACKED: u32 = 14;
const NOPAGE: u32 = 20;
const PGTABLE: u32 = 26;
const RESERVED: u32 = 32;

/// One entry of /proc/kpageflags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u64);

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process's, and not in the direct map: memfd_secret(2).
    SecretMemory,
    /// In no map of the kernel and of no process.
    Unmapped,
    /// Private memory of processes.
    Anonymous,
    /// tmpfs, memfd and shared memory.
    SharedMemory,
    /// Content of files on a file system.
    PageCache,
    /// Small objects of the kernel.
    Slab,
    /// Page tables.
    PageTable,
    /// Not managed by the kernel.
    Reserved,
    /// On the free lists.
    Free,
    /// The kernel's own pages, mapped once more: stacks, large tables.
    Vmalloc,
    /// Without any flag: the kernel's own, or freed a moment ago by the same processor.
    Kernel,
    /// In the direct map, but gone or moved when the kernel was asked.
    Gone,
}

impl Kind {
    /// The words in a row.
    pub fn words(self) -> &'static str {
        match self {
            Self::SecretMemory => "secret memory",
            Self::Unmapped => "outside every map",
            Self::Anonymous => "anonymous",
            Self::SharedMemory => "shmem",
            Self::PageCache => "page cache",
            Self::Slab => "slab",
            Self::PageTable => "page table",
            Self::Reserved => "reserved",
            Self::Free => "free",
            Self::Vmalloc => "vmalloc",
            Self::Kernel => "kernel or just freed",
            Self::Gone => "gone since",
        }
    }
}

impl Flags {
    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// What a page of the direct map is.
    pub fn kind(self) -> Kind {
        let cached = self.has(LRU) || self.has(MMAP);
        match () {
            () if self.has(BUDDY) => Kind::Free,
            () if self.has(SLAB) => Kind::Slab,
            () if self.has(PGTABLE) => Kind::PageTable,
            () if self.has(NOPAGE) || self.has(RESERVED) => Kind::Reserved,
            () if self.has(ANON) => Kind::Anonymous,
            () if self.has(SWAPBACKED) => Kind::SharedMemory,
            () if cached => Kind::PageCache,
            () => Kind::Kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_as_the_kernel_shows_them() {
        let kind = |bits: &[u32]| Flags(bits.iter().map(|bit| 1u64 << bit).sum()).kind();
        assert_eq!(kind(&[3, LRU, MMAP, ANON, SWAPBACKED]), Kind::Anonymous);
        assert_eq!(kind(&[3, LRU, SWAPBACKED]), Kind::SharedMemory);
        assert_eq!(kind(&[3, LRU, MMAP]), Kind::PageCache);
        assert_eq!(kind(&[BUDDY]), Kind::Free);
        assert_eq!(kind(&[SLAB, 15]), Kind::Slab);
        assert_eq!(kind(&[PGTABLE, MMAP]), Kind::PageTable);
        assert_eq!(kind(&[NOPAGE]), Kind::Reserved);
        assert_eq!(kind(&[]), Kind::Kernel);
    }
}
