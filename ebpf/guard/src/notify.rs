//! Messages to systemd by sd_notify(3)'s protocol: one datagram to $NOTIFY_SOCKET. Silent without it.

use rempart_api::guard::Status;
use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

fn send(message: &str) {
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address));
    if let Err(error) = sent {
        eprintln!("<4>rempart-guard: cannot notify systemd: {error}");
    }
}

/// The socket is served.
pub(crate) fn ready(status: &Status) {
    let attached = status.programs.iter().filter(|p| p.attached).count();
    let line = match &status.why {
        None => format!("enforcing, {attached} programs attached"),
        Some(why) if status.enforcing => format!("enforcing, {attached} programs attached; DEGRADED: {why}"),
        Some(why) => format!("DEGRADED: {why}"),
    };
    send(&format!("READY=1\nSTATUS={line}\n"));
}

/// Still alive.
pub(crate) fn alive() {
    send("WATCHDOG=1\n");
}

/// How often systemd wants to hear [`alive`]: half of what it allows.
pub(crate) fn interval() -> Duration {
    std::env::var("WATCHDOG_USEC")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(Duration::from_secs(10), |micros: u64| Duration::from_micros(micros / 2))
}
