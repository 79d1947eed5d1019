//! systemd as seen from a service: its manager on the bus, and sd_notify(3).

/// org.freedesktop.systemd1.
pub mod manager;
/// READY, STATUS, WATCHDOG.
pub mod notify;
