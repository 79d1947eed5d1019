//! Fingerprints of secrets, as ebpf/bpf/leak.bpf.c looks for them: keyed hashes of windows of a secret's bytes.
//!
//! Two hashes of each window: one bit of a filter (multiply-shift) tells most output apart, SipHash-2-4 decides. Which windows are
//! taken is not known here. Must never hold a secret longer than a call.

use crate::{Mode, word};

/// Bytes of a window of a long secret.
pub const WIDE: usize = 16;
/// Bytes of a window of a short one.
pub const NARROW: usize = 8;
/// Output is looked at every so many bytes for wide windows.
pub const STRIDE: usize = 8;
/// Bits of a unit's filter, as a power of two.
pub const FILTER_BITS: u32 = 17;
/// Bytes of a unit's filter.
pub const FILTER_BYTES: usize = 1 << (FILTER_BITS - 3);
/// Units whose output is watched at the same time: each has a filter in memory that is never swapped.
pub const MAX_WATCHED: u32 = 128;
/// Windows of one unit: 32 KiB of secrets, 256 KiB of hashes. More would fill its filter, and half of all output would be hashed twice.
pub const MAX_PRINTS: usize = 32 * 1024;

/// The key of one set of fingerprints: drawn anew for each, so that those of two units or two starts have nothing in common.
pub struct LeakKey {
    factors: [u64; 2],
    sip: [u64; 2],
}

impl LeakKey {
    /// Bytes of a key.
    pub const SIZE: usize = 32;

    /// A key of random bytes.
    pub fn new(random: &[u8; Self::SIZE]) -> Self {
        let at = |index: usize| word(random, index * 8).map_or(0, u64::from_le_bytes);
        LeakKey {
            // An even factor would lose bits.
            factors: [at(0) | 1, at(1) | 1],
            sip: [at(2), at(3)],
        }
    }

    /// As it is passed on.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.factors.iter().chain(&self.sip)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Which bit of the filter a window of [`WIDE`] or [`NARROW`] bytes sets.
    pub fn filter_bit(&self, window: &[u8]) -> usize {
        let sum = words(window)
            .zip(self.factors)
            .fold(0u64, |sum, (word, factor)| sum.wrapping_add(word.wrapping_mul(factor)));
        usize::try_from(sum >> (64 - FILTER_BITS)).unwrap_or(0)
    }

    /// SipHash-2-4 of a window.
    pub fn print(&self, window: &[u8]) -> u64 {
        let [k0, k1] = self.sip;
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let last = (window.len() as u64) << 56;
        for word in words(window).chain([last]) {
            v[3] ^= word;
            round(&mut v);
            round(&mut v);
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

/// Whole words only: windows are multiples of eight bytes.
fn words(window: &[u8]) -> impl Iterator<Item = u64> {
    window
        .chunks_exact(8)
        .map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes))
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// `struct leak_set` of layout.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeakSet {
    /// Value of its fingerprints.
    pub id: u64,
    /// The key, as [`LeakKey::encode`] gives it.
    pub key: [u8; LeakKey::SIZE],
    /// Index of its filter.
    pub slot: u32,
    /// What becomes of output with a secret in it; `None` for a number this version does not know; the programs deny then.
    pub mode: Option<Mode>,
    /// There are wide windows.
    pub wide: bool,
    /// Stride for narrow windows: 0 for none, else 1, 2, 4 or 8.
    pub step: u32,
}

impl LeakSet {
    /// Bytes in the map.
    pub const SIZE: usize = 56;

    /// As the map holds it. The key's words are in the machine's own order there.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.id.to_ne_bytes());
        for (place, word) in bytes[8..40].chunks_exact_mut(8).zip(words(&self.key)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[40..44].copy_from_slice(&self.slot.to_ne_bytes());
        bytes[44..48].copy_from_slice(&self.mode.map_or(0, |m| m as u32).to_ne_bytes());
        bytes[48..52].copy_from_slice(&u32::from(self.wide).to_ne_bytes());
        bytes[52..56].copy_from_slice(&self.step.to_ne_bytes());
        bytes
    }

    /// Id and slot of what the map holds; `None` when it is too short.
    pub fn place(bytes: &[u8]) -> Option<(u64, u32)> {
        Some((
            u64::from_ne_bytes(word(bytes, 0)?),
            u32::from_ne_bytes(word(bytes, 40)?),
        ))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const LAYOUT: &str = include_str!("../../bpf/layout.h");

    fn counting() -> LeakKey {
        // Vectors of the reference implementation: key 00 to 0f.
        let mut random = [0u8; LeakKey::SIZE];
        for (index, byte) in random[16..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        LeakKey::new(&random)
    }

    #[test]
    fn the_hash_is_siphash_2_4_by_its_authors_vectors() {
        let text: [u8; 16] = std::array::from_fn(|index| index as u8);
        assert_eq!(counting().print(&text[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(counting().print(&text), 0x3f2a_cc7f_57c2_9bdb);
    }

    #[test]
    fn both_halves_have_the_same_sizes() {
        for (name, value) in [
            ("LEAK_WIDE", WIDE),
            ("LEAK_NARROW", NARROW),
            ("LEAK_STRIDE", STRIDE),
            ("LEAK_FILTER_BITS", FILTER_BITS as usize),
            ("LEAK_FILTER_BYTES", FILTER_BYTES),
            ("LEAK_UNITS", MAX_WATCHED as usize),
        ] {
            let line = std::format!("#define {name} {value}\n");
            assert!(LAYOUT.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_key_survives_and_its_factors_are_odd() {
        let key = LeakKey::new(&[0x42; LeakKey::SIZE]);
        let again = LeakKey::new(&key.encode());
        assert_eq!(key.encode(), again.encode());
        assert_eq!((key.factors[0] & 1, key.factors[1] & 1), (1, 1));
    }

    #[test]
    fn a_set_tells_its_id_and_slot() {
        let set = LeakSet {
            id: 7,
            key: counting().encode(),
            slot: 5,
            mode: Some(Mode::Kill),
            wide: true,
            step: 2,
        };
        assert_eq!(LeakSet::place(&set.encode()), Some((7, 5)));
        assert_eq!(LeakSet::place(&[0; 43]), None);
    }
}
