//! Many units: has the guard label one process after another, each as a unit of its own, and counts the answers. Prints JSON; what
//! was refused first is told as it was said.

use crate::{ask::send, sys};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    process::ExitCode,
    time::Instant,
};

pub(crate) fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<ExitCode, String> {
    let (mut socket, mut from, mut to) = ("/run/rempart-guard/guard.sock", 0u64, 0u64);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word {
            "--socket" => socket = value,
            "--from" => from = number()?,
            "--to" => to = number()?,
            _ => return Err(format!("unknown word {word}")),
        }
    }
    let said = |error: std::io::Error| error.to_string();
    let stream = UnixStream::connect(socket).map_err(said)?;
    let mut answers = BufReader::new(stream.try_clone().map_err(said)?).lines();
    let (leash, held) = UnixStream::pair().map_err(said)?;
    let (mut labelled, mut refused, mut first, begun) = (0u64, 0u64, String::new(), Instant::now());
    for number in from..to {
        let pid = sleeper(&held).map_err(said)?;
        let request =
            format!("{{\"v\":1,\"op\":\"protect\",\"unit\":\"unit-{number}.service\",\"mode\":\"enforce\"}}\n");
        let pidfd = sys::pidfd_open(pid).map_err(said)?;
        send(&stream, request.as_bytes(), Some(&pidfd)).map_err(said)?;
        let answer = answers.next().ok_or("the guard closed the connection")?.map_err(said)?;
        (&leash).write_all(&[0]).map_err(said)?;
        sys::call(libc::SYS_wait4, [pid as u64, 0, 0, 0, 0, 0]).map_err(said)?;
        if answer.contains("\"ok\":true") {
            labelled += 1;
        } else {
            refused += 1;
            if first.is_empty() {
                first = answer;
            }
        }
    }
    let seconds = begun.elapsed().as_secs();
    println!(
        "{}",
        json!({"labelled": labelled, "refused": refused, "first": first, "seconds": seconds})
    );
    Ok(ExitCode::SUCCESS)
}

/// A process that waits for one byte and ends. A signal would not do: a labelled process gets none from its parent.
fn sleeper(leash: &UnixStream) -> std::io::Result<i32> {
    let pid = sys::call(libc::SYS_fork, [0; 6])?;
    if pid == 0 {
        let mut byte = 0u8;
        let _ = sys::call(
            libc::SYS_read,
            [leash.as_raw_fd() as u64, (&raw mut byte) as u64, 1, 0, 0, 0],
        );
        std::process::exit(0);
    }
    Ok(pid as i32)
}
