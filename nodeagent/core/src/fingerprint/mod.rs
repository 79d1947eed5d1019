//! Fingerprints of a unit's secrets, by which the guard's programs know them in what the unit puts out (docs/adr/0014).
//!
//! Keyed hashes of all windows of a value; the windows themselves are nowhere kept. Must never take a window that is ordinary text:
//! a unit would be refused its own log lines.

/// What the programs do with output, for tests.
#[cfg(test)]
mod model;
/// Which bytes of a value are secret.
mod part;

use rempart_bpf_common::{FILTER_BYTES, LeakKey, MAX_PRINTS, NARROW, STRIDE, WIDE};
use std::collections::BTreeSet;

/// Shortest value that wide windows find wherever it lies in the output.
const WIDE_VALUE: usize = WIDE + STRIDE - 1;
/// Fewer different bytes are no secret that could be told from a ruler or a row of digits.
const MIN_DISTINCT: usize = 5;

/// Why a value cannot be known in output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwatched {
    /// Too short.
    #[error("it has fewer than {NARROW} bytes, which other output may have as well")]
    Short,
    /// No secret.
    #[error("it looks like ordinary text: few different characters, or a sequence")]
    Plain,
    /// Certificates or public keys.
    #[error("it holds certificates or public keys only")]
    Public,
    /// Too long.
    #[error("the unit's secrets have more than {MAX_PRINTS} windows together")]
    Long,
}

/// The fingerprints of one unit.
pub struct Fingerprints {
    key: LeakKey,
    filter: Vec<u8>,
    prints: BTreeSet<u64>,
    wide: bool,
    step: usize,
}

impl Fingerprints {
    /// None yet, under a key of these random bytes.
    pub fn new(random: &[u8; LeakKey::SIZE]) -> Self {
        Self {
            key: LeakKey::new(random),
            filter: vec![0; FILTER_BYTES],
            prints: BTreeSet::new(),
            wide: false,
            step: 0,
        }
    }

    /// Takes those of `value`.
    ///
    /// # Errors
    /// The value is not watched, and why. What was taken before stays.
    pub fn add(&mut self, value: &[u8]) -> Result<(), Unwatched> {
        let mut outcome = Err(Unwatched::Public);
        for part in part::secret_parts(value) {
            outcome = match (outcome, self.add_part(part)) {
                (_, Err(Unwatched::Long)) => return Err(Unwatched::Long),
                (Ok(()), _) | (_, Ok(())) => Ok(()),
                (_, why) => why,
            };
        }
        outcome
    }

    fn add_part(&mut self, part: &[u8]) -> Result<(), Unwatched> {
        let windows: Vec<&[u8]> = match part.len() {
            0..NARROW => return Err(Unwatched::Short),
            // All or none: of so few windows none may be missing.
            NARROW..WIDE_VALUE if !is_spread(part) => return Err(Unwatched::Plain),
            NARROW..WIDE_VALUE => part.windows(NARROW).collect(),
            _ => part.windows(WIDE).filter(|window| is_spread(window)).collect(),
        };
        if windows.is_empty() {
            return Err(Unwatched::Plain);
        }
        if self.prints.len() + windows.len() > MAX_PRINTS {
            return Err(Unwatched::Long);
        }
        if part.len() < WIDE_VALUE {
            let step = step(part.len());
            self.step = if self.step == 0 { step } else { self.step.min(step) };
        } else {
            self.wide = true;
        }
        for window in windows {
            let bit = self.key.filter_bit(window);
            self.filter[bit / 8] |= 1 << (bit % 8);
            self.prints.insert(self.key.print(window));
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prints.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Whether some are of wide windows.
    #[must_use]
    pub fn wide(&self) -> bool {
        self.wide
    }

    /// At every how many bytes output must be looked at for narrow windows; 0 without any.
    #[must_use]
    pub fn step(&self) -> u32 {
        u32::try_from(self.step).unwrap_or(0)
    }

    /// As the guard reads them: key, filter, then 8 bytes each.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LeakKey::SIZE + FILTER_BYTES + self.prints.len() * 8);
        bytes.extend_from_slice(&self.key.encode());
        bytes.extend_from_slice(&self.filter);
        bytes.extend(self.prints.iter().flat_map(|print| print.to_le_bytes()));
        bytes
    }
}

/// The widest stride by which a value of `len` bytes has a window on it wherever it lies.
fn step(len: usize) -> usize {
    let most = (len + 1 - NARROW).min(STRIDE);
    1 << most.ilog2()
}

/// Whether this is unlikely to be in output by chance: several different bytes, no sequence (rulers, alphabets, digits), little space.
fn is_spread(bytes: &[u8]) -> bool {
    let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
    let in_sequence = bytes.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
    let spaces = bytes.iter().filter(|byte| byte.is_ascii_whitespace()).count();
    distinct.len() >= MIN_DISTINCT && in_sequence * 2 <= bytes.len() && spaces * 2 <= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{model::Scan, *};

    /// xorshift64*: the same values in each run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() % limit as u64).expect("below a usize")
        }

        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
        }

        fn fingerprints(&mut self) -> Fingerprints {
            Fingerprints::new(&self.bytes(LeakKey::SIZE).try_into().expect("as many"))
        }
    }

    const PASSWORD: &[u8] = b"hunter2!Q";
    const TOKEN: &[u8] = b"q7Vd-0p3xKz9wLm2eRt6yUi8oAs4dFg1hJk5";

    #[test]
    fn a_secret_is_known_wherever_it_lies_and_however_the_output_is_cut() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..3000 {
            let len = NARROW + random.below(120);
            let secret = random.bytes(len);
            let mut prints = random.fingerprints();
            if prints.add(&secret).is_err() {
                continue;
            }
            let (before, after) = (random.below(3000), random.below(300));
            let mut output = random.bytes(before);
            output.extend_from_slice(&secret);
            output.extend(random.bytes(after));
            let mut scan = Scan::new(&prints);
            let mut rest = output.as_slice();
            let mut found = false;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + random.below(rest.len()));
                found |= scan.sees(now);
                rest = later;
            }
            assert!(found, "{len} bytes at {before}");
        }
    }

    #[test]
    fn a_run_of_a_long_secret_is_enough_and_fewer_bytes_are_not_known() {
        let mut random = Random(7);
        let secret = random.bytes(200);
        let mut prints = random.fingerprints();
        prints.add(&secret).expect("watched");
        for at in 0..secret.len() - WIDE_VALUE {
            let before = random.below(100);
            let mut output = random.bytes(before);
            output.extend_from_slice(&secret[at..at + WIDE_VALUE]);
            assert!(Scan::new(&prints).sees(&output), "{at}");
            let mut near = random.bytes(before);
            near.extend_from_slice(&secret[at..at + WIDE - 1]);
            near.extend(random.bytes(50));
            assert!(!Scan::new(&prints).sees(&near), "{at}");
        }
    }

    #[test]
    fn each_call_may_bring_one_byte() {
        for secret in [PASSWORD, TOKEN] {
            let mut prints = Random(3).fingerprints();
            prints.add(secret).expect("watched");
            let mut scan = Scan::new(&prints);
            assert!(secret.iter().any(|byte| scan.sees(&[*byte])));
        }
    }

    #[test]
    fn other_output_is_let_through() {
        let mut random = Random(11);
        let mut prints = random.fingerprints();
        for secret in [PASSWORD, TOKEN] {
            prints.add(secret).expect("watched");
        }
        assert_eq!((prints.wide(), prints.step()), (true, 2));
        assert!(!Scan::new(&prints).sees(&random.bytes(1 << 20)));
        let mut read = 0;
        for folder in ["../core/src", "../../docs", "../../ebpf/bpf", ".."] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                read += text.len();
                assert!(!Scan::new(&prints).sees(&text), "{}", entry.path().display());
            }
        }
        assert!(read > 100_000, "{read}");
        let mut near = TOKEN.to_vec();
        *near.last_mut().expect("not empty") ^= 1;
        near[12] ^= 1;
        near[24] ^= 1;
        assert!(!Scan::new(&prints).sees(&near));
    }

    #[test]
    fn what_cannot_be_told_from_other_output_is_not_taken() {
        let refused = |value: &[u8]| Random(1).fingerprints().add(value).expect_err("not watched");
        assert_eq!(refused(b""), Unwatched::Short);
        assert_eq!(refused(b"  hunter2 \n"), Unwatched::Short);
        assert_eq!(refused(b"aaaaaaaabbbb"), Unwatched::Plain);
        assert_eq!(refused(b"0123456789"), Unwatched::Plain);
        assert_eq!(refused(&[b'-'; 64]), Unwatched::Plain);
        assert_eq!(refused(b"abcdefghijklmnopqrstuvwxyz"), Unwatched::Plain);
        assert_eq!(refused(&Random(5).bytes(MAX_PRINTS + 16)), Unwatched::Long);
    }

    #[test]
    fn short_values_have_the_stride_that_finds_them() {
        assert_eq!([8, 9, 10, 11, 14, 15, 22].map(step), [1, 2, 2, 4, 4, 8, 8]);
    }

    #[test]
    fn what_is_passed_on_holds_no_byte_of_the_secret_in_a_row() {
        let mut prints = Random(23).fingerprints();
        prints.add(TOKEN).expect("watched");
        let bytes = prints.encode();
        assert_eq!(bytes.len(), LeakKey::SIZE + FILTER_BYTES + prints.len() * 8);
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!TOKEN.windows(4).any(holds));
    }
}
