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
    /// A program of systemd's that measures the boot into the TPM.
    Tpm = 8,
}

/// How a file or folder is sealed, as bits (`SEAL_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Seal {
    /// Content, attributes and name stay.
    File = 1,
    /// No entry comes or goes.
    Folder = 2,
    /// It is not renamed, and nothing is mounted over it.
    Name = 4,
    /// No entry `ld.so.preload` comes.
    Preload = 8,
    /// Code of the guard, the agent or systemd's programs: content and attributes stay, another file may take its name.
    Code = 16,
}

/// What a break-glass token lifts, as bits (`LIFT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Lift {
    /// Sealed files may be changed.
    Files = 1,
    /// What is denied to the machine as a whole is let through and recorded.
    Machine = 2,
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
    /// Thread whose opened files are being learnt, 0 for none.
    pub learn_tid: u32,
    /// Machine-wide vectors are denied.
    pub armed: bool,
    /// Next unit id.
    pub next_unit: u64,
    /// Digest of the object that is attached; 0 while an installation is not finished.
    pub object: u64,
    /// Nanoseconds of CLOCK_BOOTTIME until which `lifted` counts.
    pub lifted_until: u64,
    /// Bits of [`Lift`].
    pub lifted: u32,
    /// Bits of [`Lift`] that were lifted at any time since boot.
    pub was_lifted: u32,
    /// Bits of [`Seal`] for what is being learnt.
    pub learn_seal: u32,
    /// Changes of sealed files are recorded only.
    pub files_observed: bool,
    /// Major number of the TPM's devices, 0 for none.
    pub tpm_major: u32,
    /// The TPM's devices are the agent's alone.
    pub tpm_exclusive: bool,
    /// Vector to be recorded at the guard's next getpgid(2), 0 for none.
    pub announce: u32,
    /// What is learnt is the executable of this loader of foreign programs, 0 for none.
    pub learn_loader: u32,
}

impl Config {
    /// Bytes in the map.
    pub const SIZE: usize = 96;

    /// Nothing installed, nothing armed.
    pub const EMPTY: Config = Config {
        pin_dev: 0,
        pin_ino: 0,
        learn: Label {
            unit: 0,
            mode: None,
            flags: 0,
        },
        learn_tid: 0,
        armed: false,
        next_unit: 1,
        object: 0,
        lifted_until: 0,
        lifted: 0,
        was_lifted: 0,
        learn_seal: 0,
        files_observed: false,
        tpm_major: 0,
        tpm_exclusive: false,
        announce: 0,
        learn_loader: 0,
    };

    /// As the map holds it.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.pin_dev.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.pin_ino.to_ne_bytes());
        bytes[16..32].copy_from_slice(&self.learn.encode());
        bytes[32..36].copy_from_slice(&self.learn_tid.to_ne_bytes());
        bytes[36..40].copy_from_slice(&u32::from(self.armed).to_ne_bytes());
        bytes[40..48].copy_from_slice(&self.next_unit.to_ne_bytes());
        bytes[48..56].copy_from_slice(&self.object.to_ne_bytes());
        bytes[56..64].copy_from_slice(&self.lifted_until.to_ne_bytes());
        let files_mode = if self.files_observed { Mode::Observe as u32 } else { 0 };
        let words = [
            self.lifted,
            self.was_lifted,
            self.learn_seal,
            files_mode,
            self.tpm_major,
            u32::from(self.tpm_exclusive),
            self.announce,
            self.learn_loader,
        ];
        for (at, word) in bytes[64..].chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// What the map holds; `None` when it is too short.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::SIZE)?;
        Some(Config {
            pin_dev: u64::from_ne_bytes(word(bytes, 0)?),
            pin_ino: u64::from_ne_bytes(word(bytes, 8)?),
            learn: Label::decode(bytes.get(16..32)?)?,
            learn_tid: u32::from_ne_bytes(word(bytes, 32)?),
            armed: u32::from_ne_bytes(word(bytes, 36)?) != 0,
            next_unit: u64::from_ne_bytes(word(bytes, 40)?),
            object: u64::from_ne_bytes(word(bytes, 48)?),
            lifted_until: u64::from_ne_bytes(word(bytes, 56)?),
            lifted: u32::from_ne_bytes(word(bytes, 64)?),
            was_lifted: u32::from_ne_bytes(word(bytes, 68)?),
            learn_seal: u32::from_ne_bytes(word(bytes, 72)?),
            files_observed: u32::from_ne_bytes(word(bytes, 76)?) == Mode::Observe as u32,
            tpm_major: u32::from_ne_bytes(word(bytes, 80)?),
            tpm_exclusive: u32::from_ne_bytes(word(bytes, 84)?) != 0,
            announce: u32::from_ne_bytes(word(bytes, 88)?),
            learn_loader: u32::from_ne_bytes(word(bytes, 92)?),
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
            learn_tid: 77,
            armed: true,
            next_unit: 12,
            object: u64::MAX,
            lifted_until: 5_000,
            lifted: Lift::Files as u32,
            was_lifted: Lift::Files as u32 | Lift::Machine as u32,
            learn_seal: Seal::Folder as u32,
            files_observed: true,
            tpm_major: 253,
            tpm_exclusive: true,
            announce: 101,
            learn_loader: 3,
        };
        assert_eq!(Config::decode(&config.encode()), Some(config));
        assert_eq!(Config::decode(&config.encode()[..Config::SIZE - 1]), None);
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
