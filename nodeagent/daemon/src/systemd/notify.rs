//! sd_notify(3) by hand: one datagram, no library.
//!
//! Must never fail the agent: without systemd there is nobody to tell.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::ffi::OsStrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
};

/// The agent serves.
pub fn ready() {
    send("READY=1\nSTATUS=serving");
}

/// The agent ends.
pub fn stopping() {
    send("STOPPING=1");
}

/// The agent is alive. Sent more often than any sensible WatchdogSec=.
pub fn watchdog() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        send("WATCHDOG=1");
    }
}

fn send(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else {
        return;
    };
    let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = UnixDatagram::unbound()
        .and_then(|socket| address.and_then(|address| socket.send_to_addr(text.as_bytes(), &address)));
    if let Err(error) = sent {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}
