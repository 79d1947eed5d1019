//! Other values in the files of a unit that runs: its wrapper has handed over a writable descriptor of each, and the unit says that it reads
//! them again when it is told.
//!
//! Must never write into a file that is not the service's own memory, nor write anything that was not recorded before.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use rempart_api::{
    PROTOCOL_VERSION as V,
    agent::{MAX_KEPT, Request},
    line::{self, LineError, MAX_LINE},
};
use rempart_backend::{Backend, Lease};
use rempart_core::{config::Degraded, unitfile::OptIn};
use rempart_secret::SecretBytes;
use rempart_secretmem::{TransferError, receive_part};
use tokio::{io::Interest, net::UnixStream, time::timeout};

use super::{
    layout::Delivery,
    outage::Outage,
    socket::{fingerprints, released, watch},
    stale::copies,
    template,
    units::Units,
};
use crate::{
    audit::Audit,
    guard::Guard,
    node::{Node, Results},
    systemd::manager,
};

/// Time for systemd.
const SILENCE: Duration = Duration::from_secs(25);
/// What a tail is overwritten with at a time.
const ZERO: [u8; 4096] = [0; 4096];

/// The files of one start of a unit.
pub struct Files {
    opt_in: OptIn,
    files: BTreeMap<String, File>,
    /// What they were made of last: its output is watched for that too, as long as it may use it.
    values: Mutex<Vec<SecretBytes>>,
}

/// What replacing needs.
pub struct Replacer {
    /// The node.
    pub node: Arc<Node>,
    /// The vault.
    pub backend: Arc<dyn Backend>,
    /// The guard.
    pub guard: Guard,
    /// The log.
    pub audit: Arc<Audit>,
    /// What a kernel that does not enforce means.
    pub degraded: Degraded,
    /// What is kept for a vault that is away.
    pub outage: Outage,
    /// What the units were at boot.
    pub units: Arc<Units>,
    /// Bus of systemd.
    pub bus: zbus::Connection,
}

/// Why nothing was replaced, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum NotReplaced {
    /// Another try may do: the service has what it had.
    #[error("{0}")]
    NotYet(String),
    /// That start is over.
    #[error("it has ended")]
    Gone,
    /// It cannot be done in place.
    #[error("{0}")]
    Never(String),
}

impl Files {
    /// The unit's files, `received` from its wrapper, made of `values`.
    pub fn of(opt_in: OptIn, received: Vec<(String, OwnedFd)>, values: Vec<SecretBytes>) -> io::Result<Self> {
        let files = received.into_iter().map(|(name, descriptor)| {
            let file = File::from(descriptor);
            let outside = |why: &str| io::Error::other(format!("the file of {name} {why}"));
            // A memfd: an inode without a name that knows seals.
            let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| outside("is no memory file"))?;
            let known = file.metadata()?;
            if !known.is_file() || known.nlink() != 0 {
                return Err(outside("is no memory file"));
            }
            let fixed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
            if SealFlag::from_bits_truncate(seals).intersects(fixed) {
                return Err(outside("cannot be written to"));
            }
            Ok((name, file))
        });
        let files: BTreeMap<String, File> = files.collect::<io::Result<_>>()?;
        Ok(Self {
            opt_in,
            files,
            values: Mutex::new(values),
        })
    }

    fn values(&self) -> MutexGuard<'_, Vec<SecretBytes>> {
        // Replaced as a whole; a panic leaves it so.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, deliveries: &[Delivery]) -> io::Result<()> {
        let file = |delivery: &Delivery| {
            let file = self.files.get(&delivery.name);
            file.ok_or_else(|| io::Error::other(format!("there is no file {}", delivery.name)))
        };
        // All or none, as far as that is to be seen before.
        for delivery in deliveries {
            file(delivery)?;
        }
        for delivery in deliveries {
            rewrite(file(delivery)?, delivery.value.expose())?;
        }
        Ok(())
    }
}

/// Nothing of what was there stays in memory. Not at one blow: whoever reads meanwhile may see parts of both.
fn rewrite(file: &File, value: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all_at(value, 0)?;
    let mut end = value.len() as u64;
    while end < before {
        let part = ZERO.len().min(usize::try_from(before - end).unwrap_or(ZERO.len()));
        file.write_all_at(&ZERO[..part], end)?;
        end += part as u64;
    }
    file.set_len(value.len() as u64)
}

impl Replacer {
    /// New values in `files` of `unit`; what of them ends. The unit has still to be told.
    pub async fn replace(&self, unit: &str, invocation: &str, files: &Files) -> Result<Vec<Lease>, NotReplaced> {
        let not_yet = |why: &dyn std::fmt::Display| NotReplaced::NotYet(why.to_string());
        self.node.may_release().map_err(NotReplaced::NotYet)?;
        self.still_runs(unit, invocation).await?;
        // As at a start: what is not any more what it was at boot gets nothing.
        let checked = timeout(SILENCE, self.units.check(&self.bus, unit)).await;
        let checked = checked.map_err(|_| not_yet(&"systemd did not answer in time"))?;
        checked
            .map_err(|error| not_yet(&error))?
            .map_err(|refusal| not_yet(&refusal))?;
        let results = Results(self.node.clone());
        let fetch = self.outage.fetch(&*self.backend, &results, unit, &files.opt_in);
        let (fetched, stand_in) = Box::pin(fetch).await.map_err(|error| not_yet(&error))?;
        if let Some(stand_in) = stand_in {
            // The service has those already.
            return Err(NotReplaced::NotYet(stand_in.why));
        }
        let mut leases = fetched.leases;
        let replaced = self.put(unit, invocation, files, fetched.values).await;
        // What could not be written as a whole may be in use in part.
        if replaced
            .as_ref()
            .is_err_and(|error| !matches!(error, NotReplaced::Never(_)))
        {
            self.backend.end(std::mem::take(&mut leases)).await;
        }
        replaced.map(|()| leases)
    }

    async fn put(
        &self,
        unit: &str,
        invocation: &str,
        files: &Files,
        values: Vec<SecretBytes>,
    ) -> Result<(), NotReplaced> {
        let not_yet = |why: &dyn std::fmt::Display| NotReplaced::NotYet(why.to_string());
        let opt_in = &files.opt_in;
        let known = copies(&files.values());
        let prints = fingerprints(unit, opt_in, &[&known, &values]).map_err(|refusal| not_yet(&refusal))?;
        let next = copies(&values);
        let deliveries = template::deliveries(unit, opt_in, values).map_err(|refusal| not_yet(&refusal))?;
        let secrets = opt_in.wanted().iter().map(ToString::to_string).collect();
        let record = released(unit, invocation, opt_in, secrets, None);
        self.audit.record(record).map_err(|error| not_yet(&error))?;
        // Of another start it would be the wrong output.
        self.still_runs(unit, invocation).await?;
        let watched = watch(&self.guard, self.degraded, unit, opt_in, &prints).await;
        watched.map_err(|refusal| not_yet(&refusal))?;
        // The vault took its time; the node may have been locked meanwhile.
        self.node.may_release().map_err(NotReplaced::NotYet)?;
        files
            .put(&deliveries)
            .map_err(|error| NotReplaced::Never(format!("its files cannot be written: {error}")))?;
        *files.values() = next;
        Ok(())
    }

    /// What systemd does not say is no end, and no reason to go on either.
    pub async fn still_runs(&self, unit: &str, invocation: &str) -> Result<(), NotReplaced> {
        match timeout(SILENCE, manager::runs(&self.bus, unit, invocation)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(NotReplaced::Gone),
            Ok(Err(error)) => Err(NotReplaced::NotYet(error.to_string())),
            Err(_) => Err(NotReplaced::NotYet("systemd did not answer in time".into())),
        }
    }
}

/// The descriptors that the wrapper hands over, by name.
pub async fn receive(stream: &UnixStream) -> Result<Vec<(String, OwnedFd)>, LineError> {
    let mut text = Vec::new();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    while text.last() != Some(&b'\n') {
        let next = stream.async_io(Interest::READABLE, || {
            receive_part(stream.as_fd()).map_err(|error| match error {
                TransferError::Timeout => io::ErrorKind::WouldBlock.into(),
                other => io::Error::other(other),
            })
        });
        let (part, more) = next.await?;
        if part.is_empty() {
            return Err(LineError::PeerClosed);
        }
        text.extend_from_slice(&part);
        descriptors.extend(more);
        if text.len() > MAX_LINE || descriptors.len() > MAX_KEPT {
            return Err(LineError::PeerLineTooLong);
        }
    }
    text.pop();
    let outside = |why: &str| LineError::Io(io::Error::other(why.to_owned()));
    match line::decode(&text)? {
        Request::Keep { v: V, names } if names.len() == descriptors.len() => {
            Ok(names.into_iter().zip(descriptors).collect())
        }
        Request::Keep { v: V, .. } => Err(outside("not one descriptor for each name")),
        _ => Err(outside("another request than the one that was due")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use rempart_api::agent::{Access, Deliver};
    use rempart_core::unitfile::{Source, read_opt_in};
    use rempart_secret::SecretBytes;
    use rempart_secretmem::send_line;
    use std::io::Read;

    fn opt_in() -> OptIn {
        let text = "[X-Rempart]\nWrap=yes\nRole=a\nOnRotate=reload\nSecret=k:file=kv/a#b\n";
        read_opt_in(&[Source { path: "f", text }])
            .expect("valid")
            .expect("opted in")
    }

    fn memory() -> OwnedFd {
        memfd_create(c"f", MFdFlags::MFD_ALLOW_SEALING).expect("a memory file")
    }

    fn value(name: &str, value: &[u8]) -> Delivery {
        Delivery {
            name: name.into(),
            deliver: Deliver::File,
            access: Access::default(),
            value: SecretBytes::new(value.to_vec()),
        }
    }

    #[test]
    fn a_file_holds_the_new_value_and_no_end_of_the_old_one() {
        let memory = memory();
        let mut reader = File::from(memory.try_clone().expect("another"));
        let files = Files::of(opt_in(), vec![("k".into(), memory)], Vec::new()).expect("a memory file");
        let long = vec![b'x'; 10_000];
        for text in [&long[..], b"short", b"", b"a little longer"] {
            files.put(&[value("k", text)]).expect("written");
            let mut read = Vec::new();
            std::io::Seek::rewind(&mut reader).expect("to the beginning");
            reader.read_to_end(&mut read).expect("readable");
            assert_eq!(read, text);
        }
        assert!(files.put(&[value("k", b"new"), value("other", b"x")]).is_err());
        assert_eq!(reader.metadata().expect("known").len(), 15, "then none is replaced");
    }

    #[test]
    fn only_a_memory_file_that_can_be_written_to_is_kept() {
        let named = tempfile::tempfile().expect("a file");
        assert!(Files::of(opt_in(), vec![("k".into(), named.into())], Vec::new()).is_err());
        let (socket, _) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert!(Files::of(opt_in(), vec![("k".into(), socket.into())], Vec::new()).is_err());
        let sealed = memory();
        fcntl(&sealed, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect("sealed");
        assert!(Files::of(opt_in(), vec![("k".into(), sealed)], Vec::new()).is_err());
    }

    #[tokio::test]
    async fn one_descriptor_comes_for_each_name_or_none_is_taken() {
        let received = async |words: &str, count: usize| {
            let (here, there) = UnixStream::pair().expect("a pair");
            let all: Vec<OwnedFd> = (0..count).map(|_| memory()).collect();
            let all: Vec<_> = all.iter().map(AsFd::as_fd).collect();
            let there = there.into_std().expect("a socket");
            send_line(there.as_fd(), words.as_bytes(), &all).expect("sent");
            drop(there);
            receive(&here).await.map(|files| files.len())
        };
        let names: Vec<String> = (0..MAX_KEPT)
            .map(|n| format!("\"a-rather-long-name-of-a-file-{n}\""))
            .collect();
        let many = format!("{{\"op\":\"keep\",\"v\":1,\"names\":[{}]}}\n", names.join(","));
        assert_eq!(received(&many, MAX_KEPT).await.expect("all"), MAX_KEPT);
        let one = "{\"op\":\"keep\",\"v\":1,\"names\":[\"k\"]}\n";
        assert_eq!(received(one, 1).await.expect("one"), 1);
        for (words, count) in [
            (one, 0),
            (one, 2),
            ("{\"op\":\"release\",\"v\":1}\n", 0),
            ("{\"op\":\"keep\"", 0),
        ] {
            assert!(received(words, count).await.is_err(), "{words} {count}");
        }
    }
}
