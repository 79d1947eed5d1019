//! The agent socket ([`crate::path::AGENT_SOCKET`]): rempart-wrap asks, rempartd answers.
//!
//! The request names nothing: who asks is learnt from the kernel (`SO_PEERPIDFD`) and from systemd,
//! never from what the caller says. The values never appear here: they lie in the memfd_secret
//! descriptor that comes with the answer by `SCM_RIGHTS`.

use serde::{Deserialize, Serialize};

/// What a caller may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The secrets of the unit that the caller is the main or control process of.
    Release {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
    },
    /// After an answer with `keep`: a writable descriptor of each file comes with it, in this order, so that what they hold can be replaced
    /// while the service runs.
    Keep {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// Names of the files.
        names: Vec<String>,
    },
}

/// Most descriptors that one message carries (SCM_MAX_FD of unix(7)).
pub const MAX_KEPT: usize = 253;

/// How one secret reaches the program, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// A memfd_secret descriptor that the program maps.
    Fd,
    /// `getenv` and `environ` answered from secret memory by the preloaded interposer.
    Getenv,
    /// A path that opens to a sealed memory file of the process itself.
    File,
    /// A plain environment variable.
    Env,
    /// A credential of systemd's: it asks the agent itself (`LoadCredential=`), and the wrapper never sees it.
    Credential,
}

impl Deliver {
    /// The word used in unit files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fd => "fd",
            Self::Getenv => "getenv",
            Self::File => "file",
            Self::Env => "env",
            Self::Credential => "credential",
        }
    }

    /// The mode named by `word`, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Fd, Self::Getenv, Self::File, Self::Env, Self::Credential]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// Where one secret lies in the area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The name that the unit gave it.
    pub name: String,
    /// How to deliver it.
    pub deliver: Deliver,
    /// First byte in the area.
    pub offset: usize,
    /// Length in bytes; may be 0.
    pub len: usize,
    /// For [`Deliver::File`]: the path that the agent prepared, a link to `/proc/self/fd/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For [`Deliver::File`]: what the unit says of its mode and owner.
    #[serde(default, skip_serializing_if = "Access::is_usual")]
    pub access: Access,
}

/// Mode and owner of a [`Deliver::File`]. What is not said is as usual: 0400, and the user and group that the unit runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// A name of /etc/passwd, or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A name of /etc/group, or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Access {
    /// Nothing was said.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How the names of units begin that `rempart run` makes for a command.
pub const RUN_UNIT: &str = "rempart-run-";
/// The descriptor number of the first file delivered; item `i` of the answer gets `FILE_FD_BASE + i`.
pub const FILE_FD_BASE: i32 = 200;
/// The first number that no file has: a unit has at most 256 secrets and templates.
pub const FILE_FD_END: i32 = FILE_FD_BASE + 256;

/// The RLIMIT_MEMLOCK that a service with a secret heap of `heap` bytes needs: the heap, its copy while the service forks, and
/// the areas of its secrets.
#[must_use]
pub fn lock_limit(heap: u64) -> u64 {
    heap.saturating_mul(2).saturating_add(16 << 20)
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// The secrets; one memfd_secret descriptor of `area_len` bytes comes with it.
    Released {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// Length of the area in bytes.
        area_len: usize,
        /// One entry for each secret, in the unit's order.
        items: Vec<Item>,
        /// `Memory=secret`: the service runs on a secret heap of at most so many bytes, or not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heap: Option<u64>,
        /// The files are to be replaced while the service runs: their descriptors are wanted back ([`Request::Keep`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Nothing is released; no descriptor comes with it.
    Refused {
        /// [`crate::PROTOCOL_VERSION`].
        v: u32,
        /// One line: what, why, what to do.
        refused: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_shape() {
        let request = serde_json::to_string(&Request::Release { v: 1 }).expect("plain struct");
        assert_eq!(request, r#"{"op":"release","v":1}"#);
        let refused: Reply = serde_json::from_str(r#"{"v":1,"refused":"node locked"}"#).expect("documented shape");
        assert_eq!(
            refused,
            Reply::Refused {
                v: 1,
                refused: "node locked".into()
            }
        );
    }

    #[test]
    fn an_unknown_operation_is_no_request() {
        assert!(serde_json::from_str::<Request>(r#"{"op":"dump","v":1}"#).is_err());
    }
}
