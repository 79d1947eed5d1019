//! What ebpf/bpf/leak.bpf.c does with the output of one stream, for comparison with what [`super::Fingerprints`] takes.

use super::Fingerprints;
use rempart_bpf_common::{NARROW, STRIDE, WIDE};

/// LEAK_CHUNK of maps.h.
const CHUNK: usize = 1024;

/// One file or socket.
pub(super) struct Scan<'a> {
    prints: &'a Fingerprints,
    carried: Vec<u8>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(prints: &'a Fingerprints) -> Self {
        Self {
            prints,
            carried: Vec::new(),
        }
    }

    /// Whether a call with these bytes is refused.
    pub(super) fn sees(&mut self, output: &[u8]) -> bool {
        for chunk in output.chunks(CHUNK) {
            let mut bytes = std::mem::take(&mut self.carried);
            bytes.extend_from_slice(chunk);
            let narrow = self.prints.step > 0 && self.has(&bytes, NARROW, self.prints.step);
            if narrow || (self.prints.wide && self.has(&bytes, WIDE, STRIDE)) {
                return true;
            }
            let mut looked = 0;
            while looked + WIDE <= bytes.len() {
                looked += STRIDE;
            }
            self.carried = bytes.split_off(looked);
        }
        false
    }

    fn has(&self, bytes: &[u8], window: usize, step: usize) -> bool {
        bytes.windows(window).step_by(step).any(|window| {
            let bit = self.prints.key.filter_bit(window);
            self.prints.filter[bit / 8] & (1 << (bit % 8)) != 0
                && self.prints.prints.contains(&self.prints.key.print(window))
        })
    }
}
