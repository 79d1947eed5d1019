//! Names on the system bus, and the state as it appears there.

use serde::{Deserialize, Serialize};

/// Well-known name of the agent.
pub const NAME: &str = "org.rempart.NodeAgent1";
/// Interface of the agent's object.
pub const INTERFACE: &str = "org.rempart.NodeAgent1";
/// Its only object.
pub const PATH: &str = "/org/rempart/NodeAgent1";

/// The agent's state, as the property `State` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Started; nothing asked yet.
    Booting,
    /// Asking the Verifier.
    Attesting,
    /// Secrets are released until `UnlockedUntil`.
    Unlocked,
    /// No secret is released; `Reason` says why.
    Locked,
}

impl State {
    /// The word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Attesting => "attesting",
            Self::Unlocked => "unlocked",
            Self::Locked => "locked",
        }
    }

    /// The state that `word` spells, if any.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Booting, Self::Attesting, Self::Unlocked, Self::Locked]
            .into_iter()
            .find(|state| state.word() == word)
    }
}
