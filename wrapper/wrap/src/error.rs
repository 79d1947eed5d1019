//! Everything that keeps a service from starting: one line for the operator, one exit code of sysexits.h.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use rempart_api::exit;

use crate::program::Unfit;

/// Why the service is not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("usage: rempart-wrap [--argv0 NAME] -- PROGRAM [ARGUMENT…] | rempart-wrap --refuse=TEXT ({0})")]
    Usage(&'static str),
    /// The generator put this command in the unit's place.
    #[error("service not started: {0}")]
    RefusedByGenerator(String),
    /// The agent answered no.
    #[error("service not started: {0}")]
    RefusedByAgent(String),
    /// Nobody listens.
    #[error(
        "service not started: the Rempart agent does not answer at {path} ({why}); see `systemctl status rempartd`"
    )]
    AgentAway {
        /// The socket.
        path: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// The agent's answer is not what was agreed.
    #[error(
        "service not started: the Rempart agent answered outside the protocol ({0}); are package and agent of the same version?"
    )]
    AgentProtocol(String),
    /// Secret memory is not to be had.
    #[error("service not started: {0}")]
    SecretMemory(#[from] rempart_secretmem::Error),
    /// The wrapper's own memory would not be secret.
    #[error("service not started: {0}")]
    OwnMemory(#[from] rempart_secretmem::Refusal),
    /// A call to the system failed.
    #[error("service not started: cannot {what}: {why}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        why: io::Error,
    },
    /// The unit's program does not fit the delivery that the unit asks for.
    #[error("service not started: {program} {why}; set Deliver=fd, file or env in its [X-Rempart]")]
    NotForGetenv {
        /// The program.
        program: PathBuf,
        /// Why getenv cannot be served.
        why: &'static str,
    },
    /// The unit's program cannot be put on a secret heap.
    #[error("service not started: {program} {why}; set Memory=ordinary in its [X-Rempart]")]
    NotForSecretHeap {
        /// The program.
        program: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The heap could not grow to what the unit allows it.
    #[error(
        "service not started: Memory=secret with MemorySize={heap} needs LimitMEMLOCK={needed} in [Service] of the unit, which has {limit}; remove LimitMEMLOCK= there, or raise it"
    )]
    LockLimit {
        /// What the unit allows, bytes.
        heap: u64,
        /// RLIMIT_MEMLOCK for that, bytes.
        needed: u64,
        /// RLIMIT_MEMLOCK as it is.
        limit: u64,
    },
    /// A file cannot have the owner that the unit says.
    #[error(
        "service not started: the file of {name} cannot belong to {owner}: {why}; set another FileOwner= in its [X-Rempart]: a service that is not started as root may name itself and groups that its user is in"
    )]
    FileOwner {
        /// The secret's name.
        name: String,
        /// As the unit has it.
        owner: String,
        /// One line.
        why: String,
    },
    /// A value cannot take the shape that was asked for.
    #[error("service not started: the secret {name} {why}")]
    Value {
        /// Its name; never its value.
        name: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The program cannot be started.
    #[error("service not started: cannot execute {program}: {why}")]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        why: Errno,
    },
}

impl Error {
    /// A failed system call.
    pub fn system(what: impl Into<String>, why: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            why: why.into(),
        }
    }

    /// A program that nothing can be preloaded into, for `getenv` or else for a secret heap.
    pub fn unfit(Unfit { program, why }: Unfit, getenv: bool) -> Self {
        if getenv {
            Self::NotForGetenv { program, why }
        } else {
            Self::NotForSecretHeap { program, why }
        }
    }

    /// The message, on one line whatever others put into it.
    pub fn line(&self) -> String {
        self.to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }

    /// As in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::RefusedByGenerator(_)
            | Self::NotForGetenv { .. }
            | Self::NotForSecretHeap { .. }
            | Self::LockLimit { .. }
            | Self::FileOwner { .. } => exit::CONFIG,
            Self::RefusedByAgent(_) => exit::REFUSED,
            Self::AgentAway { .. } => exit::UNAVAILABLE,
            Self::AgentProtocol(_) => exit::PROTOCOL,
            Self::SecretMemory(_) | Self::OwnMemory(_) | Self::System { .. } => exit::OS,
            Self::Value { .. } => exit::DATA,
            Self::Exec { .. } => exit::NO_INPUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_one_line() {
        let error = Error::RefusedByAgent("a\nb\u{1b}[31m".into());
        assert_eq!(error.line(), "service not started: a b [31m");
        assert_eq!(error.exit_code(), 77);
    }
}
