//! `struct event` of layout.h: one attempt, as a program saw it.

use crate::{Vector, word};

/// What the program answered.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Refused before any effect.
    Denied,
    /// Refused before any effect, then the process that tried was sent SIGKILL: the unit is in kill mode.
    Killed,
    /// Let through and recorded: the unit is in observe mode.
    Observed,
}

impl Verdict {
    /// The word in records.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Denied => "denied",
            Verdict::Killed => "killed",
            Verdict::Observed => "observed",
        }
    }
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Counts up by one for every attempt, also for those that found no room in the ring.
    pub seq: u64,
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// Id of the unit that was to be reached, 0 for the machine.
    pub unit: u64,
    /// Which vector; the bare number when this version does not know it.
    pub vector: Result<Vector, u32>,
    /// What became of it.
    pub verdict: Verdict,
    /// Thread that tried.
    pub pid: u32,
    /// Process that tried.
    pub tgid: u32,
    /// Its real user id.
    pub uid: u32,
    /// Process that was to be reached, 0 for the machine.
    pub target_pid: u32,
    /// Command name of the thread, up to the first NUL.
    pub comm: [u8; 16],
    /// Attempts of the same process, vector and unit before this one that were counted only. Always 0 for denials.
    pub suppressed: u32,
}

impl Event {
    /// Bytes of one event in a ring.
    pub const SIZE: usize = 72;
    /// The same from programs of an earlier version, which stay in force after an upgrade: without `suppressed`.
    const SIZE_1: usize = 64;

    /// Decodes what a ring holds; `None` when it is not exactly one event of a version that we know.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let suppressed = match bytes.len() {
            Self::SIZE_1 => 0,
            Self::SIZE => u32::from_ne_bytes(word(bytes, 64)?),
            _ => return None,
        };
        let number = u32::from_ne_bytes(word(bytes, 24)?);
        let verdict = u32::from_ne_bytes(word(bytes, 28)?);
        Some(Event {
            seq: u64::from_ne_bytes(word(bytes, 0)?),
            boottime_ns: u64::from_ne_bytes(word(bytes, 8)?),
            unit: u64::from_ne_bytes(word(bytes, 16)?),
            vector: Vector::from_number(number).ok_or(number),
            verdict: match verdict {
                0 => Verdict::Observed,
                2 => Verdict::Killed,
                _ => Verdict::Denied,
            },
            pid: u32::from_ne_bytes(word(bytes, 32)?),
            tgid: u32::from_ne_bytes(word(bytes, 36)?),
            uid: u32::from_ne_bytes(word(bytes, 40)?),
            target_pid: u32::from_ne_bytes(word(bytes, 44)?),
            comm: word(bytes, 48)?,
            suppressed,
        })
    }

    /// The command name without its padding.
    pub fn comm_bytes(&self) -> &[u8] {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(self.comm.len());
        &self.comm[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; Event::SIZE] {
        let mut bytes = [0u8; Event::SIZE];
        bytes[0..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&99u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&3u64.to_ne_bytes());
        bytes[24..28].copy_from_slice(&20u32.to_ne_bytes());
        bytes[28..32].copy_from_slice(&1u32.to_ne_bytes());
        bytes[32..36].copy_from_slice(&41u32.to_ne_bytes());
        bytes[36..40].copy_from_slice(&40u32.to_ne_bytes());
        bytes[44..48].copy_from_slice(&50u32.to_ne_bytes());
        bytes[48..51].copy_from_slice(b"gdb");
        bytes[64..68].copy_from_slice(&8u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn an_event_decodes_field_by_field() {
        let event = Event::decode(&sample()).expect("a whole event");
        assert_eq!((event.seq, event.boottime_ns, event.unit), (7, 99, 3));
        assert_eq!(event.vector, Ok(Vector::ProcmemRead));
        assert_eq!(event.verdict, Verdict::Denied);
        assert_eq!((event.pid, event.tgid, event.uid, event.target_pid), (41, 40, 0, 50));
        assert_eq!(event.comm_bytes(), b"gdb");
        assert_eq!(event.suppressed, 8);
    }

    #[test]
    fn an_event_of_the_first_version_has_suppressed_nothing() {
        let event = Event::decode(&sample()[..64]).expect("a whole event of version 1");
        assert_eq!((event.seq, event.suppressed), (7, 0));
        assert_eq!(event.comm_bytes(), b"gdb");
    }

    #[test]
    fn each_verdict_has_its_number() {
        let of = |number: u8| {
            let mut bytes = sample();
            bytes[28] = number;
            Event::decode(&bytes).map(|event| event.verdict.name())
        };
        assert_eq!(
            [of(0), of(1), of(2)],
            [Some("observed"), Some("denied"), Some("killed")]
        );
    }

    #[test]
    fn a_cut_or_padded_event_is_none() {
        assert_eq!(Event::decode(&sample()[..71]), None);
        assert_eq!(Event::decode(&[0u8; 73]), None);
    }

    #[test]
    fn a_vector_from_a_newer_object_keeps_its_number() {
        let mut bytes = sample();
        bytes[24..28].copy_from_slice(&9999u32.to_ne_bytes());
        assert_eq!(Event::decode(&bytes).map(|e| e.vector), Some(Err(9999)));
    }
}
