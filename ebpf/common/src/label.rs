//! `struct label`, `struct config` and the keys of layout.h.

use crate::word;

/// Unit of the guard itself.
pub const EXE_GUARD_UNIT: &str = "rempart-guard.service";
/// Unit of the agent.
pub const EXE_AGENT_UNIT: &str = "rempartd.service";

/// Enforcement, as a label carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Attempts are refused.
    Enforce = 1,
    /// Attempts are recorded and let through.
    Observe = 2,
    /// Attempts are refused, and who tried is killed.
    Kill = 3,
}

impl Mode {
    /// The stricter of two: an answer to a later request must not weaken the first.
    pub const fn or_stricter(self, other: Mode) -> Mode {
        match (self, other) {
            (Mode::Kill, _) | (_, Mode::Kill) => Mode::Kill,
            (Mode::Enforce, _) | (_, Mode::Enforce) => Mode::Enforce,
            (Mode::Observe, Mode::Observe) => Mode::Observe,
        }
    }
}

/// Standing beyond that of a wrapped unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Flags {
    /// A wrapped unit.
    None = 0,
    /// The guard.
    Guard = 1,
    /// The agent.
    Agent = 2,
}

/// Label of a thread group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Unit id; 0 is no label.
    pub unit: u64,
    /// `None` for a number this version does not know; the programs deny then.
    pub mode: Option<Mode>,
    /// Bits of [`Flags`].
    pub flags: u32,
}

impl Label {
    /// Bytes in a map.
    pub const SIZE: usize = 16;

    /// A label for `unit`.
    pub const fn new(unit: u64, mode: Mode, flags: Flags) -> Self {
        Label {
            unit,
            mode: Some(mode),
            flags: flags as u32,
        }
    }

    /// As the map holds it.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.unit.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.mode.map_or(0, |m| m as u32).to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_ne_bytes());
        bytes
    }

    /// What the map holds; `None` when it is too short.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mode = match u32::from_ne_bytes(word(bytes, 8)?) {
            1 => Some(Mode::Enforce),
            2 => Some(Mode::Observe),
            3 => Some(Mode::Kill),
            _ => None,
        };
        Some(Label {
            unit: u64::from_ne_bytes(word(bytes, 0)?),
            mode,
            flags: u32::from_ne_bytes(word(bytes, 12)?),
        })
    }

    /// The guard itself.
    pub const fn is_guard(&self) -> bool {
        self.flags & Flags::Guard as u32 != 0
    }

    /// The agent.
    pub const fn is_agent(&self) -> bool {
        self.flags & Flags::Agent as u32 != 0
    }
}

/// The one entry of the `config` map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Device of the pin folder, as the kernel numbers it; 0 before there is one.
    pub pin_dev: u64,
    /// Inode of the pin folder.
    pub pin_ino: u64,
    /// Label for executables being learnt.
    pub learn: Label,
    /// Process whose opened files are being learnt, 0 for none.
    pub learn_tgid: u32,
    /// Machine-wide vectors are denied.
    pub armed: bool,
    /// Next unit id.
    pub next_unit: u64,
    /// Digest of the object that is attached; 0 while an installation is not finished.
    pub object: u64,
}

impl Config {
    /// Bytes in the map.
    pub const SIZE: usize = 56;

    /// Nothing installed, nothing armed.
    pub const EMPTY: Config = Config {
        pin_dev: 0,
        pin_ino: 0,
        learn: Label {
            unit: 0,
            mode: None,
            flags: 0,
        },
        learn_tgid: 0,
        armed: false,
        next_unit: 1,
        object: 0,
    };

    /// As the map holds it.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.pin_dev.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.pin_ino.to_ne_bytes());
        bytes[16..32].copy_from_slice(&self.learn.encode());
        bytes[32..36].copy_from_slice(&self.learn_tgid.to_ne_bytes());
        bytes[36..40].copy_from_slice(&u32::from(self.armed).to_ne_bytes());
        bytes[40..48].copy_from_slice(&self.next_unit.to_ne_bytes());
        bytes[48..56].copy_from_slice(&self.object.to_ne_bytes());
        bytes
    }

    /// What the map holds; `None` when it is too short.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Config {
            pin_dev: u64::from_ne_bytes(word(bytes, 0)?),
            pin_ino: u64::from_ne_bytes(word(bytes, 8)?),
            learn: Label::decode(bytes.get(16..32)?)?,
            learn_tgid: u32::from_ne_bytes(word(bytes, 32)?),
            armed: u32::from_ne_bytes(word(bytes, 36)?) != 0,
            next_unit: u64::from_ne_bytes(word(bytes, 40)?),
            object: u64::from_ne_bytes(word(bytes, 48)?),
        })
    }
}

/// What an id in the `own` map is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum OwnKind {
    /// A map.
    Map = 1,
    /// A program.
    Program = 2,
}

/// Key of the `own` map.
pub const fn own_key(kind: OwnKind, id: u32) -> u64 {
    ((kind as u64) << 32) | id as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_and_label_survive_the_map() {
        let config = Config {
            pin_dev: 24,
            pin_ino: 5,
            learn: Label::new(9, Mode::Observe, Flags::Agent),
            learn_tgid: 77,
            armed: true,
            next_unit: 12,
            object: u64::MAX,
        };
        assert_eq!(Config::decode(&config.encode()), Some(config));
        assert_eq!(Config::decode(&config.encode()[..55]), None);
    }

    #[test]
    fn a_mode_is_never_weakened() {
        assert_eq!(Mode::Observe.or_stricter(Mode::Enforce), Mode::Enforce);
        assert_eq!(Mode::Kill.or_stricter(Mode::Observe), Mode::Kill);
        assert_eq!(Mode::Enforce.or_stricter(Mode::Observe), Mode::Enforce);
        assert_eq!(Mode::Observe.or_stricter(Mode::Observe), Mode::Observe);
    }

    #[test]
    fn an_unknown_mode_is_not_taken_for_observe() {
        let mut bytes = Label::new(1, Mode::Observe, Flags::None).encode();
        bytes[8] = 9;
        assert_eq!(Label::decode(&bytes).and_then(|l| l.mode), None);
    }
}
