//! `[memory]`: what it means that the kernel has no secret memory for the Verifier's heap and stacks.

use clap::ValueEnum;
use rempart_secretmem::{Ordinary, settle};
use serde::Deserialize;

use crate::error::Error;

/// The table, optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    degraded: Degraded,
}

/// Does the Verifier go on in ordinary memory?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Degraded {
    /// No.
    #[default]
    Refuse,
    /// Yes, and its log says so.
    Allow,
}

impl Memory {
    /// Settles it for this process. To be called before a key or a secret is read.
    pub fn settle(self) -> Result<(), Error> {
        self.degraded.settle()
    }
}

impl Degraded {
    /// As [`Memory::settle`], where there is no configuration yet.
    pub fn settle(self) -> Result<(), Error> {
        Ok(settle(match self {
            Self::Refuse => Ordinary::Refuse,
            Self::Allow => Ordinary::Allow,
        })?)
    }

    /// The word of the configuration file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }
}
