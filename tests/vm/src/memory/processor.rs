//! A processor's paging registers (Intel SDM volume 3, 2.5), out of QEMU's `info registers -a`.

use super::Frame;

/// CR4.LA57: five levels of page tables.
const LA57: u64 = 1 << 12;

/// What a processor translates addresses with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    cr3: u64,
    cr4: u64,
}

impl Processor {
    /// All processors of a machine.
    pub fn all(printed: &str) -> Vec<Self> {
        let register = |name: &str| -> Vec<u64> {
            let words = printed.split_whitespace();
            words
                .filter_map(|word| u64::from_str_radix(word.strip_prefix(name)?, 16).ok())
                .collect()
        };
        let pairs = register("CR3=").into_iter().zip(register("CR4="));
        pairs.map(|(cr3, cr4)| Self { cr3, cr4 }).collect()
    }

    /// Levels of page tables.
    pub fn levels(self) -> u32 {
        if self.cr4 & LA57 == 0 { 4 } else { 5 }
    }

    /// Where the topmost table may be: with page-table isolation the processor may be on the user's half of a pair, whose kernel's half
    /// is the even frame before it.
    pub fn roots(self) -> [Frame; 2] {
        let frame = (self.cr3 & 0x000f_ffff_ffff_f000) >> 12;
        [Frame(frame), Frame(frame & !1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_processors_are_read() {
        let printed = "CPU#0\r\nCR0=80050033 CR2=00007f00 CR3=0000000003a31005 CR4=00751ef0\r\nDR0=0\r\nCPU#1\r\nCR3=1000 CR4=00750ef0";
        let all = Processor::all(printed);
        assert_eq!(all.iter().map(|cpu| cpu.levels()).collect::<Vec<_>>(), [5, 4]);
        assert_eq!(all[0].roots(), [Frame(0x3a31), Frame(0x3a30)]);
    }
}
