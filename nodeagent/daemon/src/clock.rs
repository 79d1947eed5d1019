//! Clocks and the boot. CLOCK_BOOTTIME decides: it runs on in suspend and root cannot set it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspend included.
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel's time since boot is never negative.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Time since boot without suspend.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Microseconds since 1970, for people.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel's id of this boot.
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let mut id = [0; 16];
    hex::decode_to_slice(text.trim().replace('-', ""), &mut id).map_err(std::io::Error::other)?;
    Ok(id)
}

/// The same in hexadecimal; empty when the kernel does not tell it.
pub fn boot_word() -> String {
    boot_id().map(hex::encode).unwrap_or_default()
}

/// 0 to 999, to spread the nodes of a fleet.
pub fn jitter() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness there is no spread; nothing depends on it.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes) % 1000
}
