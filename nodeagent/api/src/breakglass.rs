//! A break-glass token: the owner's word that a protection of one node is lifted for a while. The text is TOML, signed with
//! `ssh-keygen -Y sign -n rempart-break-glass`; the guard judges it.

use serde::{Deserialize, Serialize};

use crate::guard::Lift;

/// Namespace of the signature (PROTOCOL.sshsig of OpenSSH).
pub const NAMESPACE: &str = "rempart-break-glass";
/// Public keys that may sign, one a line as in a `.pub` file.
pub const KEYS: &str = "/etc/rempart/break-glass.keys";
/// Longest time that one token lifts anything, in minutes.
pub const MAX_MINUTES: u32 = 240;
/// Longest text of a token, in bytes.
pub const MAX_TOKEN: usize = 4096;

/// What stands in a token. It counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The node's name.
    pub node: String,
    /// Its boot, as /proc/sys/kernel/random/boot_id has it.
    pub boot_id: String,
    /// What is lifted.
    pub lift: Vec<Lift>,
    /// For how long once the guard has taken it, 1 to [`MAX_MINUTES`].
    pub minutes: u32,
    /// After this moment (RFC 3339, UTC) the guard takes it no more.
    pub not_after: String,
    /// Why: it goes into the log as it stands here.
    pub reason: String,
}
