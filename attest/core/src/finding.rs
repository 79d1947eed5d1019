//! One failed check, explained: what was checked, on whom, what was expected, what was found, and what an operator does next.
//! All findings of one appraisal are reported together. They carry digests and event names, never a secret.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why Evidence was refused, one check each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's short name, stable for programs: one of [`crate::checks`].
    pub check: String,
    /// Who failed it: the node's name, `policy`, `verifier`.
    pub who: String,
    /// What is wrong, in one line.
    pub what: String,
    /// The register, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr: Option<u8>,
    /// What would have been accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The event of the log that explains it. Its text is the node's word: it explains, it never decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What an operator does next.
    #[serde(rename = "do")]
    pub remedy: String,
}

impl Finding {
    /// A finding with the four parts that every one has.
    pub fn new(check: &str, who: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        debug_assert!(crate::checks::is_known(check), "\"{check}\" is in no list of checks");
        Self {
            check: check.into(),
            who: who.into(),
            what: what.into(),
            pcr: None,
            expected: None,
            found: None,
            event: None,
            remedy: remedy.into(),
        }
    }

    /// Adds the register.
    pub fn pcr(mut self, pcr: u8) -> Self {
        self.pcr = Some(pcr);
        self
    }

    /// Adds what would have been accepted.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds what came.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    /// Adds the event that explains it.
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }
}

impl fmt::Display for Finding {
    /// One line for an operator: who, what, expected and found, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.what)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, "; found {found}")?;
        }
        if let Some(event) = &self.event {
            write!(f, "; event: {event}")?;
        }
        write!(f, "; {}", self.remedy)
    }
}
