//! AF_PACKET: sees a datagram of ours on the loopback. DHCP clients and ping need such sockets.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};
use std::{net::UdpSocket, os::fd::AsRawFd};

pub(super) const VECTOR: Vector = Vector {
    name: "PACKET_CAPTURE",
    title: "socket(2) AF_PACKET: sees what crosses an interface, loopback included",
    source: "packet(7)",
    hook: "",
    scope: Scope::Machine,
    recorded_as: "",
    stopped: false,
    note: "DHCP clients and ping need such sockets; what must not be read on the way is encrypted by its service",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    // ETH_P_ALL, in network order
    let socket = sys::call_for_fd(
        libc::SYS_socket,
        [libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0x0300, 0, 0, 0],
    )
    .step("socket")?;
    let sender = UdpSocket::bind("127.0.0.1:0").step("bind")?;
    let marker = b"rempart-packet-capture";
    sender.send_to(marker, "127.0.0.1:9").step("send")?;
    let mut frame = [0u8; 2048];
    for _ in 0..64 {
        let args = [
            socket.as_raw_fd() as u64,
            frame.as_mut_ptr() as u64,
            frame.len() as u64,
            libc::MSG_DONTWAIT as u64,
            0,
            0,
        ];
        let got = sys::call(libc::SYS_recvfrom, args).step("receive")? as usize;
        if frame[..got].windows(marker.len()).any(|window| window == marker) {
            return Ok("saw a datagram on the loopback".into());
        }
    }
    Err(Failure::other("no such frame"))
}
