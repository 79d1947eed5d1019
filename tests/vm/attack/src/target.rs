//! The victim: a process with a known needle in its memory and environment, for the tests' own use.

use crate::{attempt::Failure, sys};
use serde_json::json;
use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// What an attempt is aimed at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// The process; 0 when the vector needs none.
    pub(crate) pid: i32,
    /// An address known to be readable, for when maps is denied.
    pub(crate) addr: Option<u64>,
    /// The early ones: use what they have opened once this file exists.
    pub(crate) after: Option<String>,
    /// MODULE_LOAD: a kernel module that is not loaded.
    pub(crate) module: Option<String>,
    /// BPF_MAP, UNPIN: the guard's pins.
    pub(crate) pins: String,
}

/// Longest wait for protection.
const PATIENCE: Duration = Duration::from_secs(600);

impl Target {
    /// Says `ready` on standard error and waits for the file of --after.
    pub(crate) fn wait(&self) -> Result<(), Failure> {
        eprintln!("ready");
        let start = Instant::now();
        while let Some(file) = &self.after
            && !Path::new(file).exists()
        {
            if start.elapsed() > PATIENCE {
                return Err(Failure::other("was never told to go on"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// An address in the victim: the one we were told, else the start of its first writable mapping.
    pub(crate) fn address(&self) -> io::Result<u64> {
        if let Some(addr) = self.addr {
            return Ok(addr);
        }
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        maps.lines()
            .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
            .find_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok())
            .ok_or_else(|| io::Error::other("no writable mapping"))
    }
}

/// Is the victim until it is killed: prints where its needle is.
pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let mut needle = b"rempart-needle-0123456789abcdef".to_vec();
    while let Some(word) = words.next() {
        match (word, words.next()) {
            ("--needle-hex", Some(hex)) => needle = crate::find::unhex(hex)?,
            _ => return Err(format!("unknown word {word}")),
        }
    }
    println!(
        "{}",
        json!({"pid": std::process::id(), "addr": format!("{:x}", needle.as_ptr() as u64), "len": needle.len()})
    );
    // A ptrace scope set by an administrator is another protection: it must not decide these tests.
    let _ = sys::call(libc::SYS_prctl, [0x59616d61, u64::MAX, 0, 0, 0, 0]);
    loop {
        std::hint::black_box(&needle);
        thread::sleep(Duration::from_secs(3600));
    }
}
