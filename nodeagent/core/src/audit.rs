//! The audit log: JSON lines, each of which carries the SHA-256 of the line before it.
//!
//! The digest of the last line (the head) is part of every attestation, so the log cannot be cut or
//! rewritten without the owner's Verifier seeing another head. Entries name units, secrets and reasons;
//! they must never carry a secret's value, a token or a key.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// Digest of a line, or of nothing at the log's beginning.
pub type Head = [u8; 32];

/// The head of an empty log.
pub const EMPTY: Head = [0; 32];

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// The agent started.
    Started {
        /// Its version.
        version: String,
    },
    /// The state changed.
    State {
        /// The word on the bus.
        state: String,
        /// One line, may be empty.
        reason: String,
    },
    /// Secrets went to a unit.
    Released {
        /// The unit.
        unit: String,
        /// systemd's invocation id, 32 hexadecimal digits.
        invocation: String,
        /// The role that the secrets were read under.
        role: String,
        /// References, never values.
        secrets: Vec<String>,
        /// Seconds since the values were fetched, when the vault was away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stale_s: Option<u64>,
    },
    /// What the node's TPM keeps has changed.
    Sealed {
        /// `set` or `removed`: one of the owner's values; `void`: copies for outages, for good.
        change: String,
        /// The value's name; for copies the unit, or `all`.
        name: String,
        /// One line, may be empty.
        reason: String,
    },
    /// A unit is to be started, stopped or started again.
    Job {
        /// The unit.
        unit: String,
        /// `start`, `stop` or `restart`.
        job: String,
        /// One line.
        reason: String,
    },
    /// Secrets were withheld.
    Refused {
        /// Who asked: a unit, or `pid N` when it is none.
        who: String,
        /// One line.
        reason: String,
    },
    /// The guard saw an attempt.
    Attempt {
        /// Name in docs/attacks.md.
        vector: String,
        /// `denied`, `killed` or `observed`.
        verdict: String,
        /// Command name of the attempting task.
        comm: String,
        /// Its process id.
        pid: u32,
        /// Its user id.
        uid: u32,
        /// Unit that was to be reached; empty for the machine itself.
        unit: String,
        /// The guard's sequence number.
        seq: u64,
        /// Attempts of the same process, vector and unit before this one that were counted instead of recorded.
        #[serde(default, skip_serializing_if = "is_zero")]
        suppressed: u32,
    },
    /// Entries before this one are missing.
    Lost {
        /// How many the disk did not take.
        unwritten: u64,
        /// How many attempts and refusals of strangers were too many to be recorded one by one.
        suppressed: u64,
    },
}

/// Absent where there is nothing to tell, as in the lines of earlier releases.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Format of the line: 1.
    pub v: u32,
    /// Counts up by one from 0.
    pub n: u64,
    /// Microseconds since 1970, by the node's clock (which root can set; the order is what holds).
    pub time_us: u64,
    /// Hexadecimal SHA-256 of the line before, without its line feed; zeros in the first.
    pub prev: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// The end of a log, to which entries are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    head: Head,
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 0, head: EMPTY }
    }
}

/// Why a log does not hold together; `line` counts from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The line is no entry.
    #[error("audit log line {line} is not an entry: the file was damaged or edited")]
    LogMalformed {
        /// Its number.
        line: u64,
    },
    /// The line does not follow the one before.
    #[error("audit log line {line} does not follow the line before it: lines were removed, added or changed")]
    LogBroken {
        /// Its number.
        line: u64,
    },
}

impl Chain {
    /// The head to put into the next attestation.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The line (without line feed) that records `what`.
    pub fn append(&mut self, time_us: u64, what: What) -> String {
        let entry = Entry {
            v: 1,
            n: self.next,
            time_us,
            prev: hex::encode(self.head),
            what,
        };
        // An `Entry` has string keys and no maps, so it always has a JSON form.
        let line = serde_json::to_string(&entry).unwrap_or_default();
        self.advance(&line);
        line
    }

    /// Reads a whole log and gives its end, or says where it is broken.
    pub fn replay<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, ChainError> {
        let mut chain = Self::default();
        for line in lines {
            let number = chain.next + 1;
            let entry: Entry = serde_json::from_str(line).map_err(|_| ChainError::LogMalformed { line: number })?;
            if entry.n != chain.next || entry.prev != hex::encode(chain.head) {
                return Err(ChainError::LogBroken { line: number });
            }
            chain.advance(line);
        }
        Ok(chain)
    }

    fn advance(&mut self, line: &str) {
        self.head
            .copy_from_slice(digest::digest(&digest::SHA256, line.as_bytes()).as_ref());
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (Chain, Vec<String>) {
        let mut chain = Chain::default();
        let lines = ["a", "b", "c"]
            .map(|word| {
                chain.append(
                    1,
                    What::State {
                        state: word.into(),
                        reason: String::new(),
                    },
                )
            })
            .to_vec();
        (chain, lines)
    }

    #[test]
    fn the_schema_in_docs_has_the_fields_of_an_attempt() {
        let text = std::fs::read_to_string("../../docs/event.schema.json").expect("the schema");
        let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let line = Chain::default().append(
            1,
            What::Attempt {
                vector: "KCMP".into(),
                verdict: "observed".into(),
                comm: "gdb".into(),
                pid: 5,
                uid: 0,
                unit: "x.service".into(),
                seq: 1,
                suppressed: 3,
            },
        );
        let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let mut written: Vec<_> = schema["$defs"]["audit_attempt"]["properties"]
            .as_object()
            .expect("fields")
            .keys()
            .collect();
        let mut ours: Vec<_> = entry.as_object().expect("an object").keys().collect();
        written.sort();
        ours.sort();
        assert_eq!(written, ours);
    }

    #[test]
    fn a_whole_log_replays_to_its_head() {
        let (chain, lines) = log();
        assert_eq!(Chain::replay(lines.iter().map(String::as_str)), Ok(chain));
    }

    #[test]
    fn a_removed_changed_or_reordered_line_is_found() {
        let (_, lines) = log();
        let removed = [&lines[0], &lines[2]];
        assert_eq!(
            Chain::replay(removed.map(String::as_str)),
            Err(ChainError::LogBroken { line: 2 })
        );
        let changed = [lines[0].replace("\"a\"", "\"x\""), lines[1].clone()];
        assert_eq!(
            Chain::replay(changed.iter().map(String::as_str)),
            Err(ChainError::LogBroken { line: 2 })
        );
        assert_eq!(Chain::replay(["{}"]), Err(ChainError::LogMalformed { line: 1 }));
    }

    #[test]
    fn a_cut_end_gives_another_head() {
        let (chain, lines) = log();
        let cut = Chain::replay(lines[..2].iter().map(String::as_str)).expect("its lines follow each other");
        assert_ne!(cut.head(), chain.head());
    }
}
