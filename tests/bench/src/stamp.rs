//! The program whose start is measured. Its first act is to read the clock that systemd reads too.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// The variable in which the measured unit gets its secret.
pub const SECRET: &str = "DB_PASSWORD";

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Writes `now` and the secret's length: a fast start without its secret would be no result. It may be a credential of systemd's.
pub fn write(now: u64, file: &Path) -> anyhow::Result<()> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(SECRET));
    let length = match (std::env::var(SECRET), credential) {
        (Ok(value), _) => value.len(),
        (_, Some(file)) => std::fs::read(file)?.len(),
        _ => 0,
    };
    Ok(std::fs::write(file, format!("{now} {length}\n"))?)
}

/// What [`write`] wrote: nanoseconds, length.
pub fn parse(text: &str) -> anyhow::Result<(u64, usize)> {
    let (now, length) = text
        .trim()
        .split_once(' ')
        .ok_or_else(|| anyhow::anyhow!("no stamp: {text}"))?;
    Ok((now.parse()?, length.parse()?))
}
