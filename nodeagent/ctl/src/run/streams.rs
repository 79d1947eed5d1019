//! The caller's standard streams, under the names that a service wrapped with `--run` opens: the terminal itself where there is
//! one, else a pipe each.
//!
//! A unit that a file defines takes no descriptors, only paths; so what is not a terminal is carried over by a thread each.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd::mkfifo,
};

/// Bytes carried over at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// Between two looks at a pipe that nobody has open.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MS: u16 = 50;

/// The streams of one unit, until it has ended.
pub struct Streams {
    folder: PathBuf,
    ended: Arc<AtomicBool>,
    outputs: Vec<JoinHandle<()>>,
    /// Held: one `rempart run` a unit.
    _lock: File,
}

impl Streams {
    /// Puts them below `base`.
    ///
    /// # Errors
    /// `WouldBlock` when another `rempart run` has them.
    pub fn offer(base: &Path, unit: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(base)?;
        let folder = base.join(unit);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))?;
        lock.try_lock().map_err(io::Error::from)?;
        let mut streams = Self {
            folder,
            ended: Arc::default(),
            outputs: Vec::new(),
            _lock: lock,
        };
        if let Some(path) = streams.pipe(0, io::stdin().is_terminal())? {
            let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            // It may wait for input for ever; it ends with this process.
            thread::spawn(move || input(from, &path));
        }
        if let Some(path) = streams.pipe(1, io::stdout().is_terminal())? {
            streams.output(&path, File::from(io::stdout().as_fd().try_clone_to_owned()?))?;
        }
        if let Some(path) = streams.pipe(2, io::stderr().is_terminal())? {
            streams.output(&path, File::from(io::stderr().as_fd().try_clone_to_owned()?))?;
        }
        Ok(streams)
    }

    /// Until all that the unit wrote is written; it has ended.
    pub fn drain(mut self) {
        self.ended.store(true, Ordering::Release);
        for output in self.outputs.drain(..) {
            // A defect of the thread has been told by it.
            let _ = output.join();
        }
    }

    /// The pipe that stands for the stream; `None` when the terminal itself does.
    fn pipe(&self, number: u8, terminal: bool) -> io::Result<Option<PathBuf>> {
        let path = self.folder.join(number.to_string());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if terminal && let Some(device) = device(number) {
            symlink(device, &path)?;
            return Ok(None);
        }
        mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        // The program may open it again by /dev/stdout as another user; nobody else gets through the folder.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Some(path))
    }

    fn output(&mut self, path: &Path, to: File) -> io::Result<()> {
        // Open before the unit starts, so that it does not wait for us.
        let from = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        let ended = self.ended.clone();
        self.outputs.push(thread::spawn(move || output(from, to, &ended)));
        Ok(())
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The terminal's device, if this name leads to it here.
fn device(number: u8) -> Option<PathBuf> {
    let device = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    let there = fs::symlink_metadata(&device).is_ok_and(|there| there.file_type().is_char_device());
    there.then_some(device)
}

/// Into the pipe, whoever has it open: a unit may have several commands. After the end each gets an end.
fn input(mut from: File, path: &Path) {
    let mut piece = vec![0; PIECE];
    let mut held = 0..0;
    let mut ended = false;
    // Opening waits for a reader.
    while let Ok(mut to) = OpenOptions::new().write(true).open(path) {
        while !ended {
            if held.is_empty() {
                match from.read(&mut piece) {
                    Ok(0) | Err(_) => ended = true,
                    Ok(read) => held = 0..read,
                }
            }
            match to.write(&piece[held.clone()]) {
                Ok(written) => held.start += written,
                // This reader has gone; the next one gets it.
                Err(_) => break,
            }
        }
        drop(to);
        thread::sleep(PAUSE);
    }
}

/// Out of the pipe until the unit has ended and nothing is left. When nobody reads `to` any more, nobody reads the pipe either.
fn output(mut from: File, mut to: File, ended: &AtomicBool) {
    let mut piece = vec![0; PIECE];
    loop {
        // Before the look: what was written until the end is there by then.
        let last = ended.load(Ordering::Acquire);
        match from.read(&mut piece) {
            Ok(read) if read > 0 => {
                if to.write_all(&piece[..read]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ if last => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(
                    &mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)],
                    PollTimeout::from(PAUSE_MS),
                );
            }
            // Nobody has it open for writing now.
            _ => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("fifo");
        path
    }

    #[test]
    fn each_command_of_a_unit_reads_what_is_left_and_then_the_end() {
        let folder = tempfile::tempdir().expect("dir");
        let path = pipe(folder.path());
        let source = folder.path().join("source");
        fs::write(&source, "all of it").expect("file");
        let (from, at) = (File::open(&source).expect("file"), path.clone());
        thread::spawn(move || input(from, &at));
        assert_eq!(fs::read_to_string(&path).expect("first"), "all of it");
        assert_eq!(fs::read_to_string(&path).expect("second"), "");
    }

    #[test]
    fn all_that_was_written_comes_out_before_the_end() {
        let folder = tempfile::tempdir().expect("dir");
        let path = pipe(folder.path());
        let target = folder.path().join("target");
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(path)
        };
        let (from, to) = (open(&path).expect("pipe"), File::create(&target).expect("file"));
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = thread::spawn(move || output(from, to, &seen));
        let long = "x".repeat(3 * PIECE);
        fs::write(&path, &long).expect("one command");
        fs::write(&path, "end").expect("another");
        ended.store(true, Ordering::Release);
        thread.join().expect("thread");
        assert_eq!(fs::read_to_string(&target).expect("file"), long + "end");
    }

    #[test]
    fn one_caller_has_the_streams_of_a_unit_and_they_go_with_it() {
        let base = tempfile::tempdir().expect("dir");
        let first = Streams::offer(base.path(), "a.service").expect("first");
        let second = Streams::offer(base.path(), "a.service").err().expect("taken");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        assert!(base.path().join("a.service/1").exists());
        first.drain();
        assert!(!base.path().join("a.service").exists());
    }
}
