//! TCB_VERSION (56860, 2.2): security patch levels of a platform's firmware, one byte each. They are compared component by
//! component; as one number an old boot loader would pass with a new microcode.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Generation;

/// TCB_VERSION as the report has it; what each byte means depends on the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tcb(pub [u8; 8]);

/// Patch levels by name. As a minimum in a policy, a level that is not named is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// Firmware of the FMC; since Turin, 0 before.
    #[serde(skip_serializing_if = "is_zero")]
    pub fmc: u8,
    /// The AMD Secure Processor's boot loader.
    pub bootloader: u8,
    /// The AMD Secure Processor's operating system.
    pub tee: u8,
    /// SEV firmware.
    pub snp: u8,
    /// The lowest microcode of all cores.
    pub microcode: u8,
}

fn is_zero(level: &u8) -> bool {
    *level == 0
}

impl Tcb {
    /// Tables 3 (Milan, Genoa) and 4 (Turin).
    pub fn levels(self, generation: Generation) -> Levels {
        let b = self.0;
        match generation {
            Generation::Milan | Generation::Genoa => Levels {
                fmc: 0,
                bootloader: b[0],
                tee: b[1],
                snp: b[6],
                microcode: b[7],
            },
            Generation::Turin => Levels {
                fmc: b[0],
                bootloader: b[1],
                tee: b[2],
                snp: b[3],
                microcode: b[7],
            },
        }
    }

    /// The inverse of [`Self::levels`].
    pub fn from_levels(levels: Levels, generation: Generation) -> Self {
        let Levels {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = levels;
        Self(match generation {
            Generation::Milan | Generation::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            Generation::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        })
    }

    /// Whether no byte is lower than in `floor`: the comparison that needs no layout.
    pub fn at_least(self, floor: Self) -> bool {
        self.0.iter().zip(floor.0).all(|(have, want)| *have >= want)
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Levels {
    /// The names and values, in the order of the certificate's extensions.
    pub fn named(self) -> [(&'static str, u8); 5] {
        [
            ("fmc", self.fmc),
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ]
    }

    /// The names of the levels that are lower than in `minimum`.
    pub fn below(self, minimum: Self) -> Vec<&'static str> {
        let pairs = self.named().into_iter().zip(minimum.named());
        pairs
            .filter(|((_, have), (_, want))| have < want)
            .map(|((name, _), _)| name)
            .collect()
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.named().map(|(name, value)| format!("{name} {value}"));
        f.write_str(&shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels {
        fmc: 0,
        bootloader: 3,
        tee: 1,
        snp: 8,
        microcode: 115,
    };

    #[test]
    fn both_layouts_come_back_as_they_went() {
        let turin = Levels { fmc: 2, ..LEVELS };
        assert_eq!(
            Tcb::from_levels(LEVELS, Generation::Milan).0,
            [3, 1, 0, 0, 0, 0, 8, 115]
        );
        assert_eq!(Tcb::from_levels(turin, Generation::Turin).0, [2, 3, 1, 8, 0, 0, 0, 115]);
        for (generation, levels) in [(Generation::Genoa, LEVELS), (Generation::Turin, turin)] {
            assert_eq!(Tcb::from_levels(levels, generation).levels(generation), levels);
        }
    }

    #[test]
    fn a_high_component_does_not_make_up_for_a_low_one() {
        let have = Levels {
            bootloader: 2,
            microcode: 255,
            ..LEVELS
        };
        assert_eq!(have.below(LEVELS), ["bootloader"]);
        let (have, want) = (
            Tcb::from_levels(have, Generation::Milan),
            Tcb::from_levels(LEVELS, Generation::Milan),
        );
        assert!(!have.at_least(want));
        assert!(
            u64::from_le_bytes(have.0) > u64::from_le_bytes(want.0),
            "as one number it would pass"
        );
    }
}
