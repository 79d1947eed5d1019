//! Searches all memory of a process for a needle, as an attacker with root would: /proc/PID/maps, then
//! /proc/PID/mem. Prints JSON; exits 0 found, 1 denied, 3 read everything and did not find it.

use crate::attempt::{Failure, Step};
use serde_json::json;
use std::{fs, os::unix::fs::FileExt, process::ExitCode};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

pub(crate) fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    bytes
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| format!("{text:?} is no hex"))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Search {
    hits: Vec<u64>,
    bytes: u64,
    unreadable: u64,
}

fn search(pid: i32, needle: &[u8]) -> Result<Search, Failure> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).step("maps")?;
    let mem = fs::File::open(format!("/proc/{pid}/mem")).step("open mem")?;
    let mut search = Search::default();
    for line in maps.lines() {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else {
            continue;
        };
        scan(&mem, from, to, needle, &mut search)?;
    }
    Ok(search)
}

fn scan(mem: &fs::File, from: u64, to: u64, needle: &[u8], search: &mut Search) -> Result<(), Failure> {
    let mut buffer = vec![0u8; CHUNK + needle.len()];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
        match mem.read_at(&mut buffer[..want], at) {
            Ok(0) => return Ok(()),
            Ok(got) => {
                search.bytes += got as u64;
                let hits = buffer[..got]
                    .windows(needle.len())
                    .enumerate()
                    .filter(|(_, window)| *window == needle);
                search.hits.extend(hits.map(|(offset, _)| at + offset as u64));
                // Overlap by the needle's length, unless that was the end.
                let next = at + got as u64;
                at = if next >= to {
                    to
                } else {
                    (next - needle.len() as u64 + 1).max(at + 1)
                };
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                return Err(error).step("read mem");
            }
            Err(_) => {
                search.unreadable += 1;
                at += 4096;
            }
        }
    }
    Ok(())
}

pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let (mut pid, mut needle) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word {
            "--pid" => pid = value.parse().ok(),
            "--needle-hex" => needle = Some(unhex(value)?),
            _ => return Err(format!("unknown word {word}")),
        }
    }
    let (Some(pid), Some(needle)) = (pid, needle) else {
        return Err("find wants --pid and --needle-hex".into());
    };
    Ok(match search(pid, &needle) {
        Ok(done) => {
            let found = !done.hits.is_empty();
            let hits: Vec<String> = done.hits.iter().take(16).map(|hit| format!("{hit:x}")).collect();
            println!(
                "{}",
                json!({"outcome": if found {"found"} else {"absent"}, "hits": hits, "bytes": done.bytes, "unreadable_pages": done.unreadable})
            );
            ExitCode::from(if found { 0 } else { 3 })
        }
        Err(failure) => {
            let denied = failure.is_denial();
            println!(
                "{}",
                json!({"outcome": if denied {"denied"} else {"error"}, "errno": failure.errno, "detail": failure.detail})
            );
            ExitCode::from(if denied { 1 } else { 2 })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_in_our_own_memory_is_found() {
        let needle: Vec<u8> = (0..24u8).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
        let hidden = std::hint::black_box(needle.clone());
        let done = search(std::process::id() as i32, &needle).expect("our own memory");
        assert!(done.hits.contains(&(hidden.as_ptr() as u64)));
    }

    #[test]
    fn what_is_no_hex_is_refused() {
        assert_eq!(unhex("00ff"), Ok(vec![0, 255]));
        assert!(unhex("0").is_err() && unhex("zz").is_err() && unhex("").is_err());
    }
}
