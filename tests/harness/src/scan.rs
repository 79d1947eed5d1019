//! What root finds in a process's memory when nothing protects it: each mapping is read through /proc/PID/mem while the process stands
//! still, and searched for planted values.
//!
//! Must never call a process clean that it could not read: every scan counts what it read, and the caller plants a value that must be
//! found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Largest mapping read at once, bytes; a needle over its end is found by the overlap.
const PIECE: usize = 8 << 20;
/// Longest needle.
const OVERLAP: usize = 4096;
/// How far from its stack pointer a thread's frames and their remains reach, bytes.
const STACK: u64 = 128 << 10;
/// For all threads of a process to stand still.
const STILL: Duration = Duration::from_secs(10);

/// A value to look for.
#[derive(Debug, Clone)]
pub struct Needle {
    /// What it is: several values may be of one kind.
    pub kind: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Needle {
    /// A value of a kind.
    #[must_use]
    pub fn new(kind: &str, bytes: &[u8]) -> Self {
        Self {
            kind: kind.to_owned(),
            bytes: bytes.to_vec(),
        }
    }
}

/// What one look at a process showed.
#[derive(Debug, Default)]
pub struct Scan {
    /// Kinds found, with the kinds of mappings they were in.
    pub found: BTreeMap<String, Vec<&'static str>>,
    /// How many times each was found.
    pub copies: BTreeMap<String, usize>,
    /// Bytes read.
    pub read: u64,
    /// Bytes of secret memory mapped, none of which could be read.
    pub secret: u64,
}

struct Mapping {
    from: u64,
    to: u64,
    permissions: String,
    name: String,
}

/// Stops the process, searches it, and lets it go on.
pub fn scan(pid: u32, needles: &[Needle]) -> Result<Scan> {
    let search = AhoCorasick::new(needles.iter().map(|needle| &needle.bytes))?;
    let _still = Still::new(pid)?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("root is needed")?;
    let stacks = stack_pointers(pid)?;
    let mut scan = Scan::default();
    for mapping in mappings(pid)? {
        let mut piece = vec![0; usize::try_from(mapping.to - mapping.from)?.min(PIECE + OVERLAP)];
        if mapping.name.contains("secretmem") {
            let readable = memory.read_at(&mut piece[..1], mapping.from);
            anyhow::ensure!(readable.is_err(), "secret memory at {:x} was read", mapping.from);
            scan.secret += mapping.to - mapping.from;
            continue;
        }
        // Address space that never had access holds nothing; the kernel's own pages are the same in all processes.
        if mapping.permissions.starts_with("---") || mapping.name.starts_with("[v") {
            continue;
        }
        let mut at = mapping.from;
        while at < mapping.to {
            let wanted = piece.len().min(usize::try_from(mapping.to - at)?);
            let read = match memory.read_at(&mut piece[..wanted], at) {
                // Beyond the end of a mapped file there is nothing.
                Err(_) | Ok(0) if mapping.name.starts_with('/') => break,
                read => read.with_context(|| format!("{} at {at:x}", mapping.name))?,
            };
            anyhow::ensure!(read > 0, "{} at {at:x} could not be read", mapping.name);
            scan.read += read as u64;
            for hit in search.find_overlapping_iter(&piece[..read]) {
                let place = mapping.place(at + hit.start() as u64, &stacks);
                let kind = &needles[hit.pattern().as_usize()].kind;
                // What lies in the overlap is found twice, and belongs to the next piece.
                if hit.start() < PIECE {
                    *scan.copies.entry(kind.clone()).or_default() += 1;
                }
                let kinds = scan.found.entry(kind.clone()).or_default();
                if !kinds.contains(&place) {
                    kinds.push(place);
                }
            }
            at += read.min(PIECE) as u64;
        }
    }
    Ok(scan)
}

/// The same for a file, such as a core dump: the kinds found.
pub fn scan_file(path: &Path, needles: &[Needle]) -> Result<Vec<String>> {
    let search = AhoCorasick::new(needles.iter().map(|needle| &needle.bytes))?;
    let content = fs::read(path).with_context(|| path.display().to_string())?;
    let mut found: Vec<String> = search
        .find_overlapping_iter(&content)
        .map(|hit| needles[hit.pattern().as_usize()].kind.clone())
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

impl Mapping {
    /// What an address in it is. Neighbouring anonymous mappings show as one, so a stack is what is near a stack pointer.
    fn place(&self, address: u64, stacks: &[u64]) -> &'static str {
        match self.name.as_str() {
            "[stack]" => "main stack",
            "[heap]" => "heap",
            "" if stacks.iter().any(|at| at.abs_diff(address) < STACK) => "thread stack",
            "" => "heap",
            name if name.starts_with('/') => "file",
            _ => "other",
        }
    }
}

/// A process that stands still as long as this lives.
struct Still(Pid);

impl Still {
    fn new(pid: u32) -> Result<Self> {
        let still = Self(Pid::from_raw(i32::try_from(pid)?));
        kill(still.0, Signal::SIGSTOP)?;
        let start = Instant::now();
        while !stands(pid)? {
            if start.elapsed() > STILL {
                bail!("process {pid} does not stand still");
            }
            std::thread::yield_now();
        }
        Ok(still)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn stands(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may hold anything.
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z') | None) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the threads' stack pointers are: the next to last field of `syscall` (proc(5)).
fn stack_pointers(pid: u32) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("syscall")).unwrap_or_default();
        let pointer = text
            .split_whitespace()
            .rev()
            .nth(1)
            .and_then(|field| field.strip_prefix("0x"));
        found.extend(pointer.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    Ok(found)
}

fn mappings(pid: u32) -> Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.to_owned();
        Some(Mapping {
            from: u64::from_str_radix(from, 16).ok()?,
            to: u64::from_str_radix(to, 16).ok()?,
            permissions,
            name: fields.skip(3).collect::<Vec<_>>().join(" "),
        })
    };
    text.lines().map(|l| line(l).with_context(|| l.to_owned())).collect()
}
