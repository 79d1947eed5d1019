//! The audit log's file, `/var/lib/rempart/audit.jsonl`: appended, never rewritten. Its format and hash chain are
//! `rempart_core::audit`.
//!
//! Must never hold a value or a token: entries are typed and have no place for one.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Mutex,
    time::Duration,
};

use rempart_core::audit::{Chain, ChainError, Head, What};

use crate::clock;

/// Longest log read at start, in bytes; some million entries. Beyond it an operator has to archive the file.
const MAX_LOG: u64 = 512 * 1024 * 1024;
/// Lines kept in memory for `rempart events`.
const RECENT: usize = 1000;
/// Entries that others can cause at will (attempts, refusals of strangers) are recorded up to so many in each span of
/// time: an attacker who repeats himself must not fill the disk. What is left out is counted.
const LIMITS: [(u32, Duration); 2] = [(200, Duration::from_secs(10)), (3000, Duration::from_secs(3600))];

/// Why there is no audit log; without one the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or read.
    #[error("audit log {path} cannot be used: {why}; the agent records every release and does not run without it")]
    Io {
        /// Its path.
        path: String,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// Its lines do not follow each other.
    #[error("{path}: {why}; keep the file as evidence, move it away, and start rempartd again")]
    Broken {
        /// Its path.
        path: String,
        /// Where.
        why: ChainError,
    },
    /// Too long to be replayed.
    #[error("audit log {path} is longer than {MAX_LOG} bytes; archive it and start rempartd again")]
    TooLong {
        /// Its path.
        path: String,
    },
}

/// The log did not take an entry.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written: {0}; check the disk of /var/lib/rempart")]
pub struct NotRecorded(std::io::Error);

/// The open log.
pub struct Audit {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    /// Length of the file up to its last whole line.
    len: u64,
    chain: Chain,
    recent: VecDeque<String>,
    /// For each of [`LIMITS`] when its span began, and the entries in it.
    spans: [(Duration, u32); LIMITS.len()],
    unwritten: u64,
    suppressed: u64,
}

impl Audit {
    /// Opens and replays the log in the folder `state`.
    pub fn open(state: &Path) -> Result<Self, AuditError> {
        let path = state.join("audit.jsonl");
        let name = path.display().to_string();
        let io = |why| AuditError::Io {
            path: name.clone(),
            why,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut text = String::new();
        (&file).take(MAX_LOG + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_LOG {
            return Err(AuditError::TooLong { path: name });
        }
        // A power cut can leave half a line behind. It was never part of an attested head.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole != text.len() {
            tracing::warn!("audit log {name} ended in the middle of a line; the incomplete line is dropped");
            file.set_len(whole as u64).map_err(io)?;
            file.seek(SeekFrom::End(0)).map_err(io)?;
        }
        let lines = || text[..whole].lines();
        let chain = Chain::replay(lines()).map_err(|why| AuditError::Broken {
            path: name.clone(),
            why,
        })?;
        let recent = lines()
            .rev()
            .take(RECENT)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        Ok(Self {
            inner: Mutex::new(Inner {
                file,
                len: whole as u64,
                chain,
                recent,
                spans: [(Duration::ZERO, 0); LIMITS.len()],
                unwritten: 0,
                suppressed: 0,
            }),
        })
    }

    /// Records `what` for good. A failure is logged, and changes nothing: the chain ends where the file does.
    ///
    /// # Errors
    /// The entry is not on disk. Whoever records a release must not go on.
    pub fn record(&self, what: What) -> Result<(), NotRecorded> {
        let written = self.lock().record(what, true);
        if let Err(error) = &written {
            tracing::error!("{error}");
        }
        written
    }

    /// Records `what` unless there is too much of its kind; for entries that anybody can cause. Says whether the journal
    /// should have it: it drops everybody's lines when one service writes too many.
    pub fn record_some(&self, what: What) -> bool {
        let mut inner = self.lock();
        if !inner.has_room() {
            inner.suppressed += match what {
                What::Attempt { suppressed, .. } => 1 + u64::from(suppressed),
                _ => 1,
            };
            return false;
        }
        let durable = !matches!(what, What::Attempt { .. });
        if let Err(error) = inner.record(what, durable) {
            tracing::error!("{error}");
        }
        true
    }

    /// Digest of the last line.
    pub fn head(&self) -> Head {
        self.lock().chain.head()
    }

    /// The last `max` lines, oldest first.
    pub fn recent(&self, max: usize) -> Vec<String> {
        let inner = self.lock();
        let from = inner.recent.len().saturating_sub(max);
        inner.recent.iter().skip(from).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic between two statements above leaves a chain that is at worst ahead of the file.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, what: What, durable: bool) -> Result<(), NotRecorded> {
        if self.unwritten + self.suppressed > 0 && self.has_room() {
            let lost = What::Lost {
                unwritten: self.unwritten,
                suppressed: self.suppressed,
            };
            if self.append(lost, false).is_ok() {
                (self.unwritten, self.suppressed) = (0, 0);
            }
        }
        self.append(what, durable).inspect_err(|_| self.unwritten += 1)
    }

    /// Writes one line, or leaves file and chain as they were.
    fn append(&mut self, what: What, durable: bool) -> Result<(), NotRecorded> {
        let mut chain = self.chain.clone();
        let mut line = chain.append(clock::unix_us(), what);
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        let synced = if durable { self.file.sync_data() } else { Ok(()) };
        if let Err(error) = written.and(synced) {
            // A part of the line would make the next one unreadable. If even this fails, the next start drops it.
            let _ = self.file.set_len(self.len);
            return Err(NotRecorded(error));
        }
        self.len += line.len() as u64;
        self.chain = chain;
        line.pop();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
        Ok(())
    }

    /// Whether one more entry fits into every span; counts it.
    fn has_room(&mut self) -> bool {
        let now = clock::boottime();
        for ((begun, count), (_, span)) in self.spans.iter_mut().zip(LIMITS) {
            if now >= *begun + span {
                (*begun, *count) = (now, 0);
            }
        }
        let room = self
            .spans
            .iter()
            .zip(LIMITS)
            .all(|((_, count), (most, _))| *count < most);
        if room {
            for (_, count) in &mut self.spans {
                *count += 1;
            }
        } else if self.suppressed == 0 {
            tracing::warn!("too many attempts and refusals to record each; the rest is counted");
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(word: &str) -> What {
        What::State {
            state: word.into(),
            reason: String::new(),
        }
    }

    #[test]
    fn the_chain_goes_on_over_a_restart_and_over_a_torn_line() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let audit = Audit::open(folder.path()).expect("new");
        audit.record(state("a")).expect("written");
        let head = audit.head();
        drop(audit);
        let path = folder.path().join("audit.jsonl");
        let mut text = std::fs::read_to_string(&path).expect("written");
        text.push_str("{\"v\":1,\"n\":1,\"ti");
        std::fs::write(&path, text).expect("write");
        let audit = Audit::open(folder.path()).expect("torn");
        assert_eq!(audit.head(), head);
        audit.record(state("b")).expect("written");
        assert_eq!(Audit::open(folder.path()).expect("again").recent(9).len(), 2);
    }

    #[test]
    fn an_edited_log_stops_the_agent() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let audit = Audit::open(folder.path()).expect("new");
        audit.record(state("a")).expect("written");
        audit.record(state("b")).expect("written");
        let path = folder.path().join("audit.jsonl");
        let edited = std::fs::read_to_string(&path)
            .expect("written")
            .replacen("\"a\"", "\"x\"", 1);
        std::fs::write(&path, edited).expect("write");
        assert!(matches!(Audit::open(folder.path()), Err(AuditError::Broken { .. })));
    }

    #[test]
    fn a_flood_of_attempts_is_recorded_in_part() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let audit = Audit::open(folder.path()).expect("new");
        let mut told = 0;
        for seq in 0..2 * u64::from(LIMITS[0].0) {
            told += usize::from(audit.record_some(What::Attempt {
                vector: "PTRACE_ATTACH".into(),
                verdict: "denied".into(),
                comm: "gdb".into(),
                pid: 1,
                uid: 0,
                unit: "a.service".into(),
                seq,
                suppressed: 0,
            }));
        }
        assert_eq!(told, LIMITS[0].0 as usize);
        assert_eq!(audit.recent(RECENT).len(), LIMITS[0].0 as usize);
        audit
            .record(state("a"))
            .expect("what the agent itself does is always recorded");
        assert_eq!(audit.recent(RECENT).len(), LIMITS[0].0 as usize + 1);
    }

    #[test]
    fn a_full_disk_is_an_error_leaves_the_chain_as_it_was_and_is_told_afterwards() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let audit = Audit::open(folder.path()).expect("new");
        audit.record(state("a")).expect("written");
        let head = audit.head();
        let full = OpenOptions::new().append(true).open("/dev/full").expect("Linux has it");
        let file = std::mem::replace(&mut audit.lock().file, full);
        let error = audit.record(state("b")).expect_err("full").to_string();
        assert!(
            error.contains("No space left") && error.contains("check the disk"),
            "{error}"
        );
        assert_eq!(audit.head(), head);
        audit.lock().file = file;
        audit.record(state("c")).expect("written");
        let again = Audit::open(folder.path()).expect("whole");
        assert_eq!(again.head(), audit.head());
        assert!(again.recent(9)[1].contains("\"unwritten\":1"));
    }
}
