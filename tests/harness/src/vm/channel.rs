//! The virtio-serial channel to the test agent: one JSON line out, one back.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

/// What a command in the guest said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Output {
    /// Exit status; 128 + signal when killed, 124 when the time was over, 127 when it could not be started.
    pub rc: i32,
    /// Its output, with bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
}

#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    pending: Vec<u8>,
    greeted: bool,
    last_id: u64,
}

impl Channel {
    pub(super) fn connect(path: &Path) -> Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(path)?,
            pending: Vec::new(),
            greeted: false,
            last_id: 0,
        })
    }

    /// Whether the agent has said hello. What is sent before that is lost: the port has no reader yet.
    pub(super) fn greeted(&mut self, limit: Duration) -> Result<bool> {
        if !self.greeted
            && let Some(line) = self.line(Instant::now() + limit)?
        {
            self.greeted = line.get("hello").is_some();
        }
        Ok(self.greeted)
    }

    /// Sends a command without waiting for its answer.
    pub(super) fn send(&mut self, command: &[&str]) -> Result<()> {
        self.write(&json!({"id": 0, "cmd": command, "timeout": 10}))
    }

    pub(super) fn call(&mut self, command: &[&str], stdin: &[u8], limit: Duration) -> Result<Output> {
        if !self.greeted {
            bail!("the guest is not ready: wait_ready was not called");
        }
        self.last_id += 1;
        let id = self.last_id;
        self.write(&json!({"id": id, "cmd": command, "stdin_b64": base64(stdin), "timeout": limit.as_secs_f64()}))?;
        // The guest's clock is slow under emulation: it ends the command itself, we only guard against its silence.
        let deadline = Instant::now() + limit * 2 + Duration::from_secs(30);
        while let Some(line) = self.line(deadline)? {
            if line.get("id").and_then(serde_json::Value::as_u64) == Some(id) {
                return serde_json::from_value(line).context("the test agent's answer");
            }
        }
        bail!("no answer in {:?}", limit * 2 + Duration::from_secs(30));
    }

    fn write(&mut self, request: &serde_json::Value) -> Result<()> {
        self.stream
            .write_all(format!("{request}\n").as_bytes())
            .context("the machine has ended")
    }

    /// The next JSON line, or nothing when the deadline is over.
    fn line(&mut self, deadline: Instant) -> Result<Option<serde_json::Value>> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(value) => return Ok(Some(value)),
                    Err(_) => continue,
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = vec![0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the machine has ended"),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// RFC 4648 base64, for a program's standard input of any bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[sextet])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
