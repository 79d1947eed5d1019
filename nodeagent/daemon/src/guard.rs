//! rempart-guard, as its client sees it: one connection a request, a stream of its own for events.
//!
//! Must never take silence for protection: an unreachable guard is "not enforcing".

use std::{
    fs::File,
    io::{IoSlice, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::{Pid, getpgid},
};
use rempart_api::{
    PROTOCOL_VERSION as V,
    guard::{Arming, Event, Mode, Outcome, Request, Status},
    line::{self, LineError, MAX_LINE},
};
use rempart_core::fingerprint::Fingerprints;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest},
    net::UnixStream,
    sync::{Mutex, Semaphore},
    time::timeout,
};

/// One request; loading and attaching all programs takes less, even under emulation.
const EXCHANGE: Duration = Duration::from_secs(20);

/// How old a status shown to people may be.
const RECENT: Duration = Duration::from_secs(1);

/// Why the guard did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It is not there.
    #[error("rempart-guard is not reachable at {path}: {why}; check: systemctl status rempart-guard")]
    Unreachable {
        /// Its socket.
        path: String,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "process {pid} listens at {path} and is not the guard; find out who put it there, then: systemctl restart rempart-guard rempartd"
    )]
    Impostor {
        /// The guard's socket.
        path: String,
        /// Who.
        pid: i32,
    },
    /// It does not speak the protocol.
    #[error("rempart-guard: {0}; bring agent and guard to the same release")]
    GuardMalformed(#[from] LineError),
    /// It takes too long.
    #[error("rempart-guard did not answer within {} s; check: systemctl status rempart-guard", EXCHANGE.as_secs())]
    Slow,
    /// There is no memory for what it is to read.
    #[error("no memory file for rempart-guard: {0}")]
    Memory(std::io::Error),
    /// It refused.
    #[error("rempart-guard refused: {0}")]
    Refused(String),
}

/// Whether the guard's programs are in force and have labelled this process as the agent: they let it ask this about the guard only.
pub fn programs_know_us() -> bool {
    getpgid(Some(Pid::from_raw(1))) == Err(Errno::EPERM)
}

/// Questions to the guard at a time: it has eight places for the agent, and the stream of events takes one.
const ASKED: usize = 4;

/// The guard at its socket.
#[derive(Debug, Clone)]
pub struct Guard {
    path: PathBuf,
    turns: Arc<Semaphore>,
    recent: Arc<Mutex<Option<(Instant, Status)>>>,
}

impl Guard {
    /// The guard that listens at `path`. Nothing is opened yet.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            turns: Arc::new(Semaphore::new(ASKED)),
            recent: Arc::default(),
        }
    }

    /// What is in force.
    pub async fn status(&self) -> Result<Status, GuardError> {
        self.exchange(&Request::Status { v: V }, None).await
    }

    /// What is in force, with "nothing" for a guard that does not answer.
    pub async fn status_or_nothing(&self) -> Status {
        self.status().await.unwrap_or_else(|error| Status {
            v: V,
            enforcing: false,
            why: Some(error.to_string()),
            ..Status::default()
        })
    }

    /// As [`Guard::status_or_nothing`], at most [`RECENT`] old: anybody may ask for the agent's status as often as he likes, and
    /// the guard is not to be kept busy by that. Whoever asks while a question is under way waits for its answer.
    pub async fn recent_status(&self) -> Status {
        let mut recent = self.recent.lock().await;
        if let Some((_, status)) = recent.as_ref().filter(|(at, _)| at.elapsed() < RECENT) {
            return status.clone();
        }
        let status = self.status_or_nothing().await;
        // "Not there" costs the guard nothing, and must not be shown of one that has just come.
        *recent = (!status.programs.is_empty()).then(|| (Instant::now(), status.clone()));
        status
    }

    /// Labels the task of `pidfd` and all it will start as `unit`.
    pub async fn protect(
        &self,
        unit: &str,
        mode: Mode,
        allow_degraded: bool,
        pidfd: BorrowedFd<'_>,
    ) -> Result<(), GuardError> {
        let request = Request::Protect {
            v: V,
            unit: unit.to_owned(),
            mode,
            allow_degraded,
        };
        done(self.exchange(&request, Some(pidfd)).await?)
    }

    /// Compares what `unit` puts out with `prints` from now on; none lift those of an earlier start.
    pub async fn watch(&self, unit: &str, mode: Mode, prints: &Fingerprints) -> Result<(), GuardError> {
        let request = Request::Fingerprints {
            v: V,
            unit: unit.to_owned(),
            mode,
            prints: u32::try_from(prints.len()).unwrap_or(u32::MAX),
            wide: prints.wide(),
            step: prints.step(),
        };
        let file = (!prints.is_empty())
            .then(|| memory_file(&prints.encode()))
            .transpose()?;
        done(self.exchange(&request, file.as_ref().map(AsFd::as_fd)).await?)
    }

    /// Has the guard note a digest, or compare it with the one that it noted first in this boot.
    pub async fn remember(&self, name: &str, digest: &[u8; 32]) -> Result<(), GuardError> {
        let request = Request::Remember {
            v: V,
            name: name.to_owned(),
            digest: hex::encode(digest),
        };
        done(self.exchange(&request, None).await?)
    }

    /// Denies machine-wide vectors from now on.
    pub async fn arm(&self, how: &Arming) -> Result<(), GuardError> {
        let request = Request::Arm {
            v: V,
            node: how.node.clone(),
            files: how.files,
            tpm_exclusive: how.tpm_exclusive,
            foreign_bpf: how.foreign_bpf.clone(),
        };
        let outcome = self.exchange(&request, None).await?;
        // Nobody is to be shown the state of before.
        *self.recent.lock().await = None;
        done(outcome)
    }

    /// Calls `each` for every event until the stream ends.
    pub async fn events(&self, mut each: impl FnMut(Event)) -> Result<(), GuardError> {
        let mut stream = self.connect().await?;
        send(&mut stream, &line::encode(&Request::Events { v: V })?, None).await?;
        let mut reader = BufReader::new(stream);
        loop {
            each(line::decode(&read_line(&mut reader).await?)?);
        }
    }

    async fn connect(&self) -> Result<UnixStream, GuardError> {
        let unreachable = |why| GuardError::Unreachable {
            path: self.path.display().to_string(),
            why,
        };
        let stream = UnixStream::connect(&self.path).await.map_err(unreachable)?;
        // Root can put another socket in its place. The guard's programs let the agent ask this about the guard only.
        let listener = stream.peer_cred().map_err(unreachable)?.pid().map(Pid::from_raw);
        match getpgid(listener) {
            Err(Errno::EPERM) => Err(GuardError::Impostor {
                path: self.path.display().to_string(),
                pid: listener.map_or(0, Pid::as_raw),
            }),
            Err(other) => Err(unreachable(other.into())),
            Ok(_) => Ok(stream),
        }
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        request: &Request,
        pidfd: Option<BorrowedFd<'_>>,
    ) -> Result<A, GuardError> {
        // Hundreds of units may start at once.
        let _turn = self.turns.acquire().await;
        let exchange = async {
            let mut stream = self.connect().await?;
            send(&mut stream, &line::encode(request)?, pidfd).await?;
            let answer = read_line(&mut BufReader::new(stream)).await?;
            Ok(line::decode(&answer)?)
        };
        timeout(EXCHANGE, exchange).await.map_err(|_| GuardError::Slow)?
    }
}

/// A file in ordinary memory, for the guard to read: it knows no secret from it that it does not guess.
fn memory_file(bytes: &[u8]) -> Result<OwnedFd, GuardError> {
    let file = memfd_create(c"rempart-fingerprints", MFdFlags::MFD_CLOEXEC)
        .map_err(std::io::Error::from)
        .and_then(|file| {
            let mut file = File::from(file);
            file.write_all(bytes)?;
            Ok(file.into())
        });
    file.map_err(GuardError::Memory)
}

fn done(outcome: Outcome) -> Result<(), GuardError> {
    match outcome {
        Outcome::Done { ok: true, .. } => Ok(()),
        Outcome::Done { ok: false, .. } => Err(GuardError::Refused("it gave no reason".into())),
        Outcome::Refused { refused, .. } => Err(GuardError::Refused(refused)),
    }
}

/// Writes `line`, and `descriptor` with its first byte.
pub async fn send(stream: &mut UnixStream, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), LineError> {
    let mut sent = 0;
    while sent < line.len() {
        let raw = descriptor.filter(|_| sent == 0).map(|fd| [fd.as_raw_fd()]);
        let control: Vec<ControlMessage<'_>> = raw.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let parts = [IoSlice::new(&line[sent..])];
                let raw = stream.as_fd().as_raw_fd();
                Ok(sendmsg::<()>(raw, &parts, &control, MsgFlags::MSG_NOSIGNAL, None)?)
            })
            .await?;
    }
    Ok(())
}

/// One line without its line feed, of at most [`MAX_LINE`] bytes.
pub async fn read_line(reader: &mut BufReader<UnixStream>) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    let read = (&mut *reader)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ if read == MAX_LINE => Err(LineError::PeerLineTooLong),
        _ => Err(LineError::PeerClosed),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn hundreds_of_starts_never_ask_more_at_once_than_the_guard_has_places_for() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("guard.sock");
        let listener = UnixListener::bind(&path).expect("socket");
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, seen) = (open.clone(), most.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (now, seen) = (now.clone(), seen.clone());
                tokio::spawn(async move {
                    seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    let mut reader = BufReader::new(stream);
                    read_line(&mut reader).await.expect("a question");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    now.fetch_sub(1, SeqCst);
                    let answer = "{\"v\":1,\"enforcing\":false,\"armed\":false,\"lost\":0,\"programs\":[]}\n";
                    reader.get_mut().write_all(answer.as_bytes()).await.expect("sent");
                });
            }
        });
        let guard = Guard::at(path);
        let all: Vec<_> = (0..200)
            .map(|_| {
                let guard = guard.clone();
                tokio::spawn(async move { guard.status().await.map(drop) })
            })
            .collect();
        for one in all {
            one.await.expect("no panic").expect("answered");
        }
        assert!((2..=ASKED).contains(&most.load(SeqCst)), "{most:?} at once");
    }

    #[tokio::test]
    async fn many_questions_for_the_status_are_one_to_the_guard() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("guard.sock");
        let listener = UnixListener::bind(&path).expect("socket");
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let mut reader = BufReader::new(stream);
                read_line(&mut reader).await.expect("a question");
                let answer =
                    r#"{"v":1,"enforcing":false,"armed":false,"lost":0,"programs":[{"name":"p","attached":true}]}"#;
                reader
                    .get_mut()
                    .write_all(format!("{answer}\n").as_bytes())
                    .await
                    .expect("sent");
            }
        });
        let guard = Guard::at(path);
        let all = [(); 50].map(|()| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.recent_status().await.programs.len() })
        });
        for one in all {
            assert_eq!(one.await.expect("no panic"), 1);
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
        tokio::time::sleep(RECENT).await;
        let _ = guard.recent_status().await;
        assert_eq!(
            asked.load(std::sync::atomic::Ordering::SeqCst),
            2,
            "and not for longer than it is recent"
        );
    }
}
